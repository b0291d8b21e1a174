//go:build !linux

package platform

import (
	"os/exec"
	"syscall"
)

func leash(cmd *exec.Cmd) (release func()) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return func() {}
}
