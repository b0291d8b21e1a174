package process

import (
	"os/exec"
	"runtime"
	"syscall"
)

// Leash makes the kernel kill the command when the test process dies, however it dies. The signal comes when the thread
// that started the command ends, so that thread is kept until the command has ended.
func Leash(cmd *exec.Cmd) (release func()) {
	runtime.LockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	return runtime.UnlockOSThread
}
