package chaos

import (
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/process"
)

// patience bounds every wait. A machine under load is slow, and a hang must still end.
const patience = 60 * time.Second

// program is one that is started again whenever it ends, as a supervisor would, until the test is over.
type program struct {
	name  string
	admin string // address of its admin port, "" for none
	cmd   func() *exec.Cmd
	log   *process.Tail

	mu      sync.Mutex
	running *exec.Cmd
	stopped bool
	starts  int
	ended   chan struct{}
}

// restartAfter is how long a supervisor waits, so that a program that cannot start does not spin.
const restartAfter = 100 * time.Millisecond

// start runs a program until the end of the test.
func start(tb testing.TB, name, admin string, cmd func() *exec.Cmd) *program {
	tb.Helper()
	p := &program{name: name, admin: admin, cmd: cmd, log: &process.Tail{}, ended: make(chan struct{})}
	go p.supervise()
	tb.Cleanup(func() {
		p.end()
		if tb.Failed() {
			tb.Logf("the end of the log of %s:\n%s", name, p.log)
		}
	})
	return p
}

func (p *program) supervise() {
	defer close(p.ended)
	for {
		cmd := p.cmd()
		cmd.Stdout, cmd.Stderr, cmd.WaitDelay = p.log, p.log, time.Second
		release := process.Leash(cmd)
		p.mu.Lock()
		if p.stopped {
			p.mu.Unlock()
			release()
			return
		}
		err := cmd.Start()
		if err == nil {
			p.running = cmd
			p.starts++
		}
		p.mu.Unlock()
		if err == nil {
			err = cmd.Wait()
		}
		release()
		p.mu.Lock()
		p.running = nil
		p.mu.Unlock()
		_, _ = fmt.Fprintf(p.log, "-- ended: %v\n", err) // memory takes it
		let(restartAfter)
	}
}

// signal sends a signal to the program, if it runs.
func (p *program) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running != nil {
		_ = p.running.Process.Signal(s) // it may have just ended
	}
}

func (p *program) kill()   { p.signal(syscall.SIGKILL) }
func (p *program) pause()  { p.signal(syscall.SIGSTOP) }
func (p *program) resume() { p.signal(syscall.SIGCONT) }

// hold ends the program and starts it no more.
func (p *program) hold() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.kill()
	<-p.ended
}

func (p *program) end() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(20 * time.Second):
		p.kill()
		<-p.ended
	}
}

// restarts is how often it was started again.
func (p *program) restarts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.starts-1)
}

// ready tells whether the program says that it works.
func (p *program) ready() bool {
	resp, err := quick.Get("http://" + p.admin + "/health/ready")
	if err != nil {
		return false
	}
	defer func() { _ = resp.Body.Close() }()
	return resp.StatusCode == http.StatusOK
}

// metric reads a value without labels, or the sum over its labels; 0 when there is none.
func (p *program) metric(tb testing.TB, name string) float64 {
	tb.Helper()
	all, err := process.Metrics(tb.Context(), p.admin)
	require.NoError(tb, err, p.name)
	sum := 0.0
	for series, v := range all {
		if bare, _, _ := strings.Cut(series, "{"); bare == name {
			sum += v
		}
	}
	return sum
}

// quick asks programs on this machine. It keeps no connections: they would count as the program's.
var quick = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

// freeAddress is an address on loopback that nobody listens on now.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	address, err := process.FreeAddress()
	require.NoError(tb, err)
	return address
}

// let lets time pass: here it is time in which things go wrong, or nothing happens.
func let(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // there is no condition to wait for
