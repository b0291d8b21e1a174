package local

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

const lockName = "agentflow.lock"

// LockedError says that a folder is in use by another process. PID is 0 when the holder has not written it yet.
type LockedError struct {
	Dir string
	PID int
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return "another agentflow already runs on " + e.Dir
	}
	return fmt.Sprintf("another agentflow already runs on %s with pid %d", e.Dir, e.PID)
}

// DirLock is the right to use a folder. The kernel frees it when the process ends, however it ends.
type DirLock struct{ file *os.File }

// LockDir takes a folder for this process, making it if need be. If another holds it the error is a *LockedError.
// Two locks within one process exclude each other as well.
func LockDir(dir string) (*DirLock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock folder: %w", err)
	}
	if err := flock(file); err != nil {
		defer func() { _ = file.Close() }() // only read from
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, &LockedError{Dir: dir, PID: readHolder(file)}
		}
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	lock := &DirLock{file: file}
	if err := lock.write(strconv.Itoa(os.Getpid()) + "\n"); err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", dir, err), lock.Unlock())
	}
	return lock, nil
}

// Unlock gives the folder back. The file stays: removing it would let two processes lock two files of one name.
func (l *DirLock) Unlock() error {
	if l == nil || l.file == nil {
		return nil
	}
	// A pid left in the file of a free folder would only mislead people who look.
	err := errors.Join(l.file.Truncate(0), l.file.Close())
	l.file = nil
	return err
}

func (l *DirLock) write(text string) error {
	if err := l.file.Truncate(0); err != nil {
		return err
	}
	_, err := l.file.WriteAt([]byte(text), 0)
	return err
}

func flock(file *os.File) error {
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func readHolder(file *os.File) int {
	text, err := io.ReadAll(io.LimitReader(file, 32))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return 0
	}
	return pid
}
