package local

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Deadlines for callers whose ctx has none.
const (
	startPatience = time.Minute
	stopPatience  = 15 * time.Second
	busyPatience  = 5 * time.Second // for what a dead server still holds
)

// server is a child that listens on a port: what Postgres and Redis have in common. It is not safe for concurrent use.
type server struct {
	name         string
	dir          string
	log          *zap.Logger
	polite, firm syscall.Signal // for stopping

	port   int  // 0 until the first start
	pinned bool // the port was given out, or asked for: no other will do
	lock   *DirLock
	child  *child
}

// hold takes the folder, once.
func (s *server) hold() error {
	if s.lock != nil {
		return nil
	}
	lock, err := LockDir(s.dir)
	if err != nil {
		return err
	}
	s.lock = lock
	return nil
}

// waitFor takes the folder as soon as whoever holds it lets go.
func (s *server) waitFor(ctx context.Context) error {
	var err error
	free, expired := poll(ctx, startPatience, func() bool {
		err = s.hold()
		var locked *LockedError
		return !errors.As(err, &locked)
	})
	if free {
		return err
	}
	return errors.Join(expired, err)
}

// launch starts the child and waits until ready says yes. A port that is taken in the meantime is exchanged for another
// unless it is pinned. A server that comes back tries for a while to get its port again, and any server while the
// orphans of a killed one still hold its memory.
func (s *server) launch(
	ctx context.Context, build func(port int) (command, error), ready func(context.Context, *child) bool,
) error {
	if s.port == 0 {
		s.port = rememberedPort(s.dir)
	}
	patience := time.NewTimer(busyPatience)
	defer patience.Stop()
	for {
		if !s.pinned && (s.port == 0 || !portFree(ctx, s.port)) {
			port, err := FreePort(ctx)
			if err != nil {
				return err
			}
			s.port = port
		}
		c, err := build(s.port)
		if err != nil {
			return err
		}
		err = s.attempt(ctx, c, ready)
		if err == nil {
			break
		}
		if !errors.Is(err, errOrphans) && (!errors.Is(err, errPortTaken) || s.pinned && s.child == nil) {
			return err
		}
		if !s.pinned {
			s.port = 0
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-patience.C:
			return err
		case <-ctx.Done():
			return err
		}
	}
	s.pinned = true
	return rememberPort(s.dir, s.port)
}

// Failed starts that may be worth another try, and what the servers say then.
var (
	errPortTaken = errors.New("its port is taken")
	errOrphans   = errors.New("a dead server's processes are still ending")

	signs = map[string]error{
		"ddress already in use":            errPortTaken,
		"pre-existing shared memory block": errOrphans,
	}
)

func (s *server) attempt(ctx context.Context, c command, ready func(context.Context, *child) bool) error {
	child, err := startChild(ctx, c)
	if err != nil {
		return err
	}
	if err := s.await(ctx, child, ready); err != nil {
		return errors.Join(err, child.kill())
	}
	s.child = child
	child.output.loud.Store(true)
	return nil
}

func (s *server) await(ctx context.Context, child *child, ready func(context.Context, *child) bool) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-child.done:
			err := child.failure(s.name)
			for sign, reason := range signs {
				if child.output.contains(sign) {
					return fmt.Errorf("%w: %w", reason, err)
				}
			}
			return err
		case <-ctx.Done():
			return fmt.Errorf("%s was not ready in time: %w%s", s.name, context.Cause(ctx), child.output.quote())
		case <-ticker.C:
		}
		if ready(ctx, child) {
			return nil
		}
	}
}

// halt ends the child and keeps the folder.
func (s *server) halt(ctx context.Context) error {
	if !s.child.running() {
		return nil
	}
	ctx, cancel := within(ctx, stopPatience)
	defer cancel()
	s.child.output.loud.Store(false)
	return s.child.stop(ctx, s.polite, s.firm)
}

// release gives the folder back.
func (s *server) release() error {
	err := s.lock.Unlock()
	s.lock = nil
	return err
}

// kill is the crash: nothing is asked, nothing is said.
func (s *server) kill() error {
	if !s.child.running() {
		return nil
	}
	s.child.output.loud.Store(false)
	return s.child.kill()
}

// exited is closed when the running child has ended.
func (s *server) exited() <-chan struct{} {
	if s.child == nil {
		done := make(chan struct{})
		close(done)
		return done
	}
	return s.child.done
}

// within gives ctx a deadline unless it has one.
func within(ctx context.Context, patience time.Duration) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, patience)
}
