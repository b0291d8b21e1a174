package fleet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/agentflow/agentflow/test/process"
)

// How long a process may take. A machine under load is slow, and a hang must still end.
const (
	startPatience = 60 * time.Second
	stopPatience  = 60 * time.Second
)

// Process is one server or service: running, stopped or killed.
type Process struct {
	Name  string // such as gateway-1
	URL   string // where it is reached; "" when nobody calls it
	Admin string // http://host:port of its admin or monitoring port

	dir    string
	args   []string // the binary first
	env    []string
	health string // path under Admin that answers 200 when it is ready

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
	err  error         // how; read after done
	log  process.Tail
}

// Command describes a process: what runs where, and how it is asked whether it is ready.
type Command struct {
	Name   string
	Dir    string   // working folder
	Args   []string // the binary first
	Env    []string // NAME=value, on top of an environment that holds no settings of this machine
	Admin  string   // http://host:port
	Health string   // path under Admin that answers 200 when the process is ready
}

// NewProcess is a process that does not run yet.
func NewProcess(c Command) *Process {
	return &Process{Name: c.Name, Admin: c.Admin, dir: c.Dir, args: c.Args, env: c.Env, health: c.Health}
}

// Run starts the process and waits until it has ended by itself. An exit code other than 0 is an error.
func (p *Process) Run(ctx context.Context) error {
	if err := p.Begin(); err != nil {
		return err
	}
	select {
	case <-p.Ended():
	case <-ctx.Done():
		return errors.Join(ctx.Err(), p.Kill())
	}
	if err := p.ended(); err != nil {
		return fmt.Errorf("%s ended with %w\n%s", p.Name, err, p.Log())
	}
	return nil
}

// Up starts the process and waits until it says that it is ready.
func (p *Process) Up(ctx context.Context) error {
	if err := p.Begin(); err != nil {
		return err
	}
	return p.AwaitReady(ctx)
}

// Begin starts the process and does not wait.
func (p *Process) Begin() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done != nil {
		select {
		case <-p.done:
		default:
			return fmt.Errorf("%s runs already", p.Name)
		}
	}
	cmd := exec.Command(p.args[0], p.args[1:]...) // no context: its end is a signal's
	cmd.Dir, cmd.Env = p.dir, process.Environment(p.env...)
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	done, started := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(done)
		defer process.Leash(cmd)()
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
		}
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
	}()
	p.cmd, p.done = cmd, done
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	return nil
}

// AwaitReady waits until the process is ready, and fails when it ends instead.
func (p *Process) AwaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	done := p.Ended()
	for {
		err := p.Ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-done:
			return fmt.Errorf("%s ended before it was ready: %w\n%s", p.Name, p.ended(), p.Log())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w\n%s", p.Name, err, p.Log())
		}
	}
}

// Ready asks the process whether it is ready.
func (p *Process) Ready(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.Admin+p.health, http.NoBody)
	if err != nil {
		return err
	}
	response, err := probes.Do(request)
	if err != nil {
		return err
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, 4<<10))
	if err := errors.Join(err, response.Body.Close()); err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", response.Status, body)
	}
	return nil
}

// probes opens a connection per question: a process that has just started again knows nothing of old ones.
var probes = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// Stop asks the process to end in good order and waits until it has. An exit code other than 0 is an error.
func (p *Process) Stop() error {
	err := p.end(syscall.SIGTERM)
	if err != nil {
		return fmt.Errorf("%s ended with %w; the end of its log:\n%s", p.Name, err, p.Log())
	}
	return nil
}

// Kill ends the process with SIGKILL, at once, and waits until it is gone.
func (p *Process) Kill() error {
	err := p.end(syscall.SIGKILL)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // killed
	}
	return err
}

// Restart stops the process in good order and starts it again.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Stop(); err != nil {
		return err
	}
	return p.Up(ctx)
}

// Signal sends a signal and does not wait.
func (p *Process) Signal(s syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return fmt.Errorf("%s does not run", p.Name)
	}
	return p.cmd.Process.Signal(s)
}

// Ended is closed when the process that was begun last has ended.
func (p *Process) Ended() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.done
}

// PID is the process id; 0 when it was never started.
func (p *Process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil || p.cmd.Process == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Use makes later starts run another binary, such as that of an older release, and returns the one before.
func (p *Process) Use(binary string) (before string) {
	before, p.args[0] = p.args[0], binary
	return before
}

// Set changes a variable of later starts.
func (p *Process) Set(name, value string) { p.env = append(p.env, name+"="+value) }

// Log is the end of what the process has said.
func (p *Process) Log() string { return p.log.String() }

func (p *Process) end(s syscall.Signal) error {
	p.mu.Lock()
	cmd, done := p.cmd, p.done
	p.cmd, p.done = nil, nil
	p.mu.Unlock()
	if cmd == nil || cmd.Process == nil {
		return nil
	}
	if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-done:
		return p.ended()
	case <-timer.C:
		return errors.Join(fmt.Errorf("it did not end within %v of %v", stopPatience, s), cmd.Process.Kill())
	}
}

func (p *Process) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}
