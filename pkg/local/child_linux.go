package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent has the kernel send s to the child when the thread that forked it ends. Go asks for it after it has
// changed the child's user, which matters: a change of user would clear it.
func dieWithParent(attr *syscall.SysProcAttr, s syscall.Signal) { attr.Pdeathsig = s }

// runsIn reports whether the process is the named program working in dir, so that a reused pid is not mistaken for it.
func runsIn(_ context.Context, pid int, program, dir string) bool {
	proc := "/proc/" + strconv.Itoa(pid)
	exe, err := os.Readlink(filepath.Join(proc, "exe"))
	// A package upgrade leaves " (deleted)" behind the name of a program that still runs.
	if err != nil || strings.TrimSuffix(filepath.Base(exe), " (deleted)") != program {
		return false
	}
	cwd, err := os.Stat(filepath.Join(proc, "cwd"))
	if err != nil {
		return false
	}
	want, err := os.Stat(dir)
	return err == nil && os.SameFile(cwd, want)
}

// handoff gives a child a path to something below folders that its user may not enter (a data folder in /root):
// the child inherits the open file as number fd and names it through /proc, which asks for no permission above it.
func handoff(_ string, fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// initdbSync: one syncfs afterwards costs a tenth of initdb's thousand fsyncs. The same goes for the sync that Postgres
// itself does after a crash (recoverySync, from version 14 on).
var (
	initdbSync   = []string{"--no-sync"}
	recoverySync = "syncfs"
)

func syncFolder(dir string) error {
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // only read from
	if err := unix.Syncfs(int(folder.Fd())); err != nil {
		return fmt.Errorf("sync %s: %w", dir, err)
	}
	return nil
}
