package platform

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/agentflow/agentflow/test/process"
)

// Options say how to start a platform.
type Options struct {
	Data string    // folder; a new one, removed at the end, when empty
	Env  []string  // NAME=value, on top of an environment that holds no settings of the machine it runs on
	Args []string  // more arguments of `agentflow up`
	Log  io.Writer // gets the whole log, of which the platform keeps the end; nil: nobody
}

// Ready is the line of JSON that `agentflow up --json` prints when it serves.
type Ready struct {
	URL         string `json:"url"`
	Tenant      string `json:"tenant"`
	APIKey      string `json:"api_key"`
	AdminKey    string `json:"admin_key"`
	NATSURL     string `json:"nats_url"`
	DatabaseURL string `json:"database_url"`
	RedisURL    string `json:"redis_url"`
	PID         int    `json:"pid"`
	AdminAddr   string `json:"admin_addr"`
}

// How long a platform may take. A machine under load is slow, and a hang must still end.
const (
	startPatience = 90 * time.Second
	stopPatience  = 60 * time.Second
)

// Platform is `agentflow up` on a data folder: running, stopped or killed.
type Platform struct {
	Client // without a key: the tenant of the ready line, unless keys are required

	options Options
	own     bool // the data folder is ours to remove

	mu      sync.Mutex
	ready   Ready
	command *command
	log     *process.Tail // of all processes on this folder
}

// Start runs a platform that ends with the test. A test that fails prints the end of its log.
func Start(tb testing.TB, options Options) *Platform {
	tb.Helper()
	p, err := Launch(tb.Context(), options)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if err := p.Close(); err != nil {
			tb.Errorf("stop the platform: %v", err)
		}
		p.Explain(tb)
	})
	return p
}

// Launch runs a platform, for those who end it by themselves.
func Launch(ctx context.Context, options Options) (*Platform, error) {
	p := &Platform{options: options, log: &process.Tail{}}
	p.Client = Client{platform: p}
	if p.options.Data == "" {
		dir, err := os.MkdirTemp("", "agentflow-e2e-")
		if err != nil {
			return nil, err
		}
		p.options.Data, p.own = dir, true
	}
	if err := p.Up(ctx); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// Attach is a platform that somebody else runs, and ends.
func Attach(ready Ready) *Platform {
	p := &Platform{ready: ready, log: &process.Tail{}}
	p.Client = Client{platform: p}
	return p
}

// Data is the data folder.
func (p *Platform) Data() string { return p.options.Data }

// Ready is what the present process said when it was ready.
func (p *Platform) Ready() Ready {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.ready
}

// Log is the end of the log.
func (p *Platform) Log() string { return p.log.String() }

// Explain adds the end of the log to a test that has failed.
func (p *Platform) Explain(tb testing.TB) {
	tb.Helper()
	if tb.Failed() {
		tb.Logf("the end of the platform's log:\n%s", p.Log())
	}
}

// Up starts a process on the data folder and waits until it is ready.
func (p *Platform) Up(ctx context.Context) error {
	binary, err := Binary()
	if err != nil {
		return err
	}
	args := append([]string{"up", "--json", "--data", p.options.Data, "--http", "127.0.0.1:0"}, p.options.Args...)
	cmd := exec.Command(binary, args...) // no context: its end is a signal's, in good order
	// By default a store that is slow counts as away, and limits are open: on a busy machine no test of them could hold.
	cmd.Env = process.Environment(append([]string{"REDIS_TIMEOUT_MS=5000", "RATE_LIMIT_TIMEOUT_MS=10000"}, p.options.Env...)...)
	var log io.Writer = p.log
	if p.options.Log != nil {
		log = io.MultiWriter(p.log, p.options.Log)
	}
	proc, err := run(cmd, log)
	if err != nil {
		return fmt.Errorf("start agentflow: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	var line string
	select {
	case line = <-proc.first:
	case <-proc.done:
		return fmt.Errorf("agentflow up ended with %w before it was ready:\n%s", proc.err, p.Log())
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("agentflow up was not ready in time: %w\n%s", ctx.Err(), p.Log()), proc.end(syscall.SIGKILL))
	}
	var ready Ready
	if err := json.Unmarshal([]byte(line), &ready); err != nil {
		return errors.Join(fmt.Errorf("agentflow up printed %q, which is not a line of JSON: %w", line, err), proc.end(syscall.SIGKILL))
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ready, p.command = ready, proc
	return nil
}

// Kill ends the process with SIGKILL, at once, and waits until it is gone.
func (p *Platform) Kill() error {
	err := p.signal(syscall.SIGKILL)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // killed
	}
	return err
}

// Restart starts a process on the same data folder, after a kill.
func (p *Platform) Restart(ctx context.Context) error { return p.Up(ctx) }

// Stop asks the process to end in good order and waits until it has. A process that does not end with 0, or that has
// printed anything but the ready line on stdout, is an error.
func (p *Platform) Stop() error { return p.signal(syscall.SIGTERM) }

func (p *Platform) signal(s syscall.Signal) error {
	p.mu.Lock()
	proc := p.command
	p.command = nil
	p.mu.Unlock()
	if proc == nil {
		return nil
	}
	err := proc.end(s)
	if err != nil && s == syscall.SIGTERM {
		err = fmt.Errorf("agentflow up ended with %w; the end of its log:\n%s", err, p.Log())
	}
	if extra := proc.out.rest(); extra != "" {
		err = errors.Join(err, fmt.Errorf("agentflow up --json printed more than one line on stdout: %q", extra))
	}
	return err
}

// Close stops the process, if there is one, and removes a data folder that was made for it.
func (p *Platform) Close() error {
	err := p.Stop()
	if p.own {
		err = errors.Join(err, os.RemoveAll(p.options.Data))
	}
	return err
}

// command is a running `agentflow up`.
type command struct {
	cmd   *exec.Cmd
	first chan string // the first line of stdout
	done  chan struct{}
	err   error // how it ended; read after done
	out   output
}

// orphanPatience is how long a process that has ended may leave its output open to others: to children it should have
// taken along.
const orphanPatience = 5 * time.Second

// run starts a command whose first line of stdout is wanted and whose stderr goes to the log.
func run(cmd *exec.Cmd, log io.Writer) (*command, error) {
	p := &command{cmd: cmd, first: make(chan string, 1), done: make(chan struct{})}
	p.out.first = p.first
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &p.out, log, orphanPatience
	started := make(chan error, 1)
	go func() {
		defer close(p.done)
		defer process.Leash(cmd)()
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
		}
		p.err = err
	}()
	return p, <-started
}

// end sends a signal and waits.
func (p *command) end(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.NewTimer(stopPatience)
	defer timer.Stop()
	select {
	case <-p.done:
		return p.err
	case <-timer.C:
		return errors.Join(fmt.Errorf("agentflow up did not end within %v of %v", stopPatience, s), p.cmd.Process.Kill())
	}
}

// output hands out the first line that is written to it and keeps the rest.
type output struct {
	mu    sync.Mutex
	first chan<- string // nil once it was handed out
	buf   []byte
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.buf = append(o.buf, b...)
	if line, rest, ok := bytes.Cut(o.buf, []byte("\n")); ok && o.first != nil {
		o.first <- string(line)
		o.first, o.buf = nil, slices.Clone(rest)
	}
	return len(b), nil
}

// rest is what followed the first line.
func (o *output) rest() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.buf)
}
