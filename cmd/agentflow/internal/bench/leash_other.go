//go:build unix && !linux

package bench

import (
	"os/exec"
	"syscall"
)

// leash keeps Ctrl-C at the terminal from the child: we stop it in order.
func leash(cmd *exec.Cmd) (release func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() {}
}
