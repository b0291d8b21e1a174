package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// How long a platform may take. A first start on a machine without Postgres downloads one.
const (
	startPatience = 5 * time.Minute
	stopPatience  = 45 * time.Second
)

// child is a platform in a process of its own.
type child struct {
	platform.Info
	admin   string // address of health, metrics and profiles
	owner   string // URL of Postgres, as its owner
	startup time.Duration

	cmd    *exec.Cmd
	stderr *tail
	ended  chan struct{}
	err    error // how it ended; after ended
}

// startChild starts a platform on a folder and waits until it is ready.
func startChild(ctx context.Context, o Options, data string) (*child, error) {
	admin, err := freeAddress(ctx)
	if err != nil {
		return nil, err
	}
	args := slices.Concat(o.Program[1:], []string{"up", "--data", data, "--http", "127.0.0.1:0", "--json", "--durability", o.Durability})
	c := &child{admin: admin, stderr: &tail{}, ended: make(chan struct{})}
	// It outlives ctx: it is stopped in order, by stop.
	c.cmd = exec.CommandContext(context.WithoutCancel(ctx), o.Program[0], args...) //nolint:gosec // this very program
	c.cmd.Env = childEnviron(o.Environ, admin)
	c.cmd.Stderr = c.stderr
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start a platform: %w", err)
	}
	began := time.Now()
	started, lines := make(chan error, 1), make(chan []byte, 1)
	go c.wait(started, stdout, lines)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start a platform: %w", err)
	}
	patience := time.NewTimer(startPatience)
	defer patience.Stop()
	select {
	case line := <-lines:
		c.startup = time.Since(began)
		if err = c.ready(line, data); err == nil {
			return c, nil
		}
	case <-c.ended:
		err = fmt.Errorf("it ended: %w", c.err)
	case <-ctx.Done():
		err = context.Cause(ctx)
	case <-patience.C:
		err = fmt.Errorf("not ready after %s", startPatience)
	}
	return nil, errors.Join(fmt.Errorf("start a platform: %w%s", err, c.stderr.quote()), c.stop())
}

// ready reads the line that the platform prints when it is ready.
func (c *child) ready(line []byte, data string) error {
	if err := json.Unmarshal(line, &c.Info); err != nil {
		return fmt.Errorf("it said %q: %w", line, err)
	}
	note, running, err := platform.Running(data)
	if err != nil {
		return err
	}
	if !running {
		return errors.New("it ended at once")
	}
	c.owner = note.DatabaseURL
	return nil
}

// wait owns the process from fork to end, on one thread.
func (c *child) wait(started chan<- error, stdout io.Reader, lines chan<- []byte) {
	defer leash(c.cmd)()
	err := c.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	out := bufio.NewReader(stdout)
	if line, err := out.ReadBytes('\n'); err == nil {
		lines <- line
	}
	_, _ = io.Copy(io.Discard, out) // to its end, whatever it is: Wait may be called then
	c.err = c.cmd.Wait()
	if c.err == nil {
		c.err = errors.New("exit status 0")
	}
	close(c.ended)
}

// stop ends the platform and waits until it is gone.
func (c *child) stop() error {
	select {
	case <-c.ended:
		return nil
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop the platform: %w", err)
	}
	patience := time.NewTimer(stopPatience)
	defer patience.Stop()
	select {
	case <-c.ended:
		return nil
	case <-patience.C:
	}
	err := fmt.Errorf("the platform did not stop within %s, and was killed%s", stopPatience, c.stderr.quote())
	if killed := c.cmd.Process.Kill(); killed != nil {
		return errors.Join(err, killed)
	}
	<-c.ended
	return err
}

// foreign are variables that would have our platform use what is not its own: it gets fresh stores, since what stands
// in others belongs to another log.
var foreign = []string{
	"DATABASE_URL", "REDIS_URL", "ADMIN_ADDR", "HTTP_ADDR", "AGENTFLOW_DATA", "AUTH_REQUIRED", "EGRESS_ALLOW",
	"SENTRY_DSN",
}

func childEnviron(environ []string, admin string) []string {
	kept := slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return slices.Contains(foreign, strings.TrimSuffix(name, "_FILE"))
	})
	// The first entry is a default: of two for a name the later counts.
	return slices.Concat([]string{"LOG_LEVEL=error"}, kept, []string{"ADMIN_ADDR=" + admin})
}

// freeAddress finds a port that is free now. Another process may take it before the platform does, which then says so.
func freeAddress(ctx context.Context) (string, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// tail keeps the end of what a process writes.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	const enough = 4 << 10
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if more := len(t.text) - enough; more > 0 {
		t.text = append(t.text[:0], t.text[more:]...)
	}
	return len(p), nil
}

func (t *tail) quote() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if text := strings.TrimSpace(string(t.text)); text != "" {
		return "; its last words:\n" + text
	}
	return ""
}
