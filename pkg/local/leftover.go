package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// leftover is a server that an earlier process of ours may have left running. Whoever holds the folder's lock owns it.
type leftover struct {
	pidFile      string
	program      string // the executable's base name
	dir          string // the folder it works in
	polite, firm syscall.Signal
}

// clear stops the leftover, if it lives, and removes its pid file. A file whose process is gone or is somebody else
// (pids are used again, soonest in containers) would keep Postgres from starting.
func (l leftover) clear(ctx context.Context) error {
	text, err := os.ReadFile(l.pidFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for a leftover %s: %w", l.program, err)
	}
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	if err == nil && pid > 0 {
		if err := l.end(ctx, pid); err != nil {
			return err
		}
	}
	if err := os.Remove(l.pidFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("clear the leftover of %s: %w", l.program, err)
	}
	return nil
}

func (l leftover) end(ctx context.Context, pid int) error {
	for _, signal := range []syscall.Signal{l.polite, l.firm, syscall.SIGKILL} {
		// Asked anew before each signal: the pid may have changed hands.
		if !runsIn(ctx, pid, l.program, l.dir) {
			return nil
		}
		if err := syscall.Kill(pid, signal); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop the leftover %s with pid %d: %w", l.program, pid, err)
		}
		_ = syscall.Kill(pid, syscall.SIGCONT) // it may be suspended; if it is gone, all the better
		gone, err := poll(ctx, 3*time.Second, func() bool { return !runsIn(ctx, pid, l.program, l.dir) })
		if gone || err != nil {
			return err
		}
	}
	return fmt.Errorf("the leftover %s with pid %d cannot be stopped", l.program, pid)
}

// pollInterval is how closely a start is watched: it must cost less than what it waits for.
const pollInterval = 5 * time.Millisecond

// poll asks until yes, until patience runs out (false) or ctx ends (its error).
func poll(ctx context.Context, patience time.Duration, yes func() bool) (bool, error) {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		if yes() {
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-deadline.C:
			return false, nil
		case <-ticker.C:
		}
	}
}
