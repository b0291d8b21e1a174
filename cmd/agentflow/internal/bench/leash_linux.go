package bench

import (
	"os/exec"
	"runtime"
	"syscall"
)

// leash has the kernel stop the child when this process is gone, however it went. The signal comes when the thread
// that started the child ends, so the caller keeps that thread until the child has ended. The child is in a process
// group of its own: Ctrl-C at the terminal reaches us alone, and we stop it in order.
func leash(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGTERM, Setpgid: true}
	return runtime.UnlockOSThread
}
