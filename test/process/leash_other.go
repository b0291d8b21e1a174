//go:build !linux

package process

import (
	"os/exec"
	"syscall"
)

func Leash(cmd *exec.Cmd) (release func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() {}
}
