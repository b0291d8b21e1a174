//go:build !linux

package local

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// dieWithParent does nothing: there is no such signal here. A child whose parent was killed is found by its pid file
// and stopped by the next start.
func dieWithParent(*syscall.SysProcAttr, syscall.Signal) {}

// runsIn reports whether the process is the named program working in dir, so that a reused pid is not mistaken for it.
// It asks lsof, which macOS brings; without it nothing is found, and the server's own start fails on what is left.
func runsIn(ctx context.Context, pid int, program, dir string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	//nolint:gosec // the one argument that varies is a number
	out, err := exec.CommandContext(ctx, "lsof", "+c0", "-a", "-p", strconv.Itoa(pid), "-d", "cwd", "-Fcn").Output()
	if err != nil {
		return false
	}
	var name, cwd string
	for line := range strings.Lines(string(out)) {
		switch line = strings.TrimSuffix(line, "\n"); {
		case strings.HasPrefix(line, "c"):
			name = line[1:]
		case strings.HasPrefix(line, "n"):
			cwd = line[1:]
		}
	}
	works, errWorks := os.Stat(cwd)
	want, errWant := os.Stat(dir)
	return name == program && errWorks == nil && errWant == nil && os.SameFile(works, want)
}

// handoff: the child opens the path itself, so its user must be able to enter every folder above.
func handoff(path string, _ int) string { return path }

var (
	initdbSync   []string
	recoverySync = "fsync"
)

// syncFolder has nothing to do: initdb has synced here.
func syncFolder(string) error { return nil }
