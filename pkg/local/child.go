package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// lingerLimit bounds the wait for whoever still holds a dead child's output: the processes it had forked.
const lingerLimit = 5 * time.Second

// command is what to run, as whom, and how it dies when this process does.
type command struct {
	path    string
	args    []string
	dir     string
	account *account // nil: as ourselves
	files   []*os.File
	dieWith syscall.Signal // sent by the kernel when this process is gone (Linux)
	output  *output
}

// child is a process that does not outlive this one.
type child struct {
	cmd    *exec.Cmd
	output *output
	done   chan struct{} // closed when the process has ended and its output has been read
	err    error         // how it ended; valid after done
}

func startChild(ctx context.Context, c command) (*child, error) {
	// The child lives until it is stopped, not until the call that started it returns.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), c.path, c.args...) //nolint:gosec // programs we looked up ourselves
	cmd.Dir = c.dir
	cmd.Env = environment()
	cmd.Stdout, cmd.Stderr = c.output, c.output
	cmd.ExtraFiles = c.files
	cmd.WaitDelay = lingerLimit
	// Its own process group, so that Ctrl-C at the terminal reaches us alone and we stop things in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.account != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.account.uid, Gid: c.account.gid}
	}
	dieWithParent(cmd.SysProcAttr, c.dieWith)

	ch := &child{cmd: cmd, output: c.output, done: make(chan struct{})}
	started := make(chan error, 1)
	go ch.run(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.path, err)
	}
	return ch, nil
}

// run owns the process from fork to end on one thread: the kernel counts the thread that forked as the parent, and
// Go would end an unlocked one at its pleasure (and with it the child).
func (ch *child) run(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := ch.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	ch.err = ch.cmd.Wait()
	ch.output.flush()
	close(ch.done)
}

func (ch *child) pid() int { return ch.cmd.Process.Pid }

func (ch *child) running() bool {
	if ch == nil {
		return false
	}
	select {
	case <-ch.done:
		return false
	default:
		return true
	}
}

// signal reports no error for a process that is gone: the wish has come true.
func (ch *child) signal(s syscall.Signal) error {
	if err := ch.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", s, ch.cmd.Path, err)
	}
	return nil
}

// kill ends the process at once and waits until it is gone.
func (ch *child) kill() error {
	err := ch.signal(syscall.SIGKILL)
	if err == nil {
		<-ch.done
	}
	return err
}

// stop asks politely until ctx ends, then firmly for a moment, then kills. Being late is an error, though it is gone.
func (ch *child) stop(ctx context.Context, polite, firm syscall.Signal) error {
	if !ch.running() {
		return nil
	}
	if err := ch.ask(polite); err != nil {
		return err
	}
	select {
	case <-ch.done:
		return nil
	case <-ctx.Done():
	}
	late := fmt.Errorf("%s did not stop on %s: %w", ch.cmd.Path, polite, context.Cause(ctx))
	if err := ch.ask(firm); err != nil {
		return errors.Join(late, err)
	}
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	select {
	case <-ch.done:
		return late
	case <-patience.C:
		return errors.Join(late, ch.kill())
	}
}

// ask sends a signal and wakes the process if it is suspended, so that it can act on it.
func (ch *child) ask(s syscall.Signal) error {
	return errors.Join(ch.signal(s), ch.signal(syscall.SIGCONT))
}

// failure describes a child that ended by itself, with its last words.
func (ch *child) failure(name string) error {
	err := ch.err
	if err == nil {
		err = errors.New("exit status 0")
	}
	return fmt.Errorf("%s ended: %w%s", name, err, ch.output.quote())
}

// environment keeps our variables from the children: they may run as another user, and ours hold secrets and
// PG* settings meant for other servers.
func environment() []string {
	env := []string{"LC_ALL=C", "TZ=UTC"}
	for _, name := range []string{"PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	if !slices.ContainsFunc(env, func(v string) bool { return strings.HasPrefix(v, "PATH=") }) {
		env = append(env, "PATH=/usr/local/bin:/usr/bin:/bin")
	}
	return env
}
