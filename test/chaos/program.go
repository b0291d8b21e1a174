package chaos

import (
	"context"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	processes "github.com/agentflow/agentflow/test/fleet"
	"github.com/agentflow/agentflow/test/process"
)

// patience bounds every wait. A machine under load is slow, and a hang must still end.
const patience = 60 * time.Second

// program is one that is started again whenever it ends, as a supervisor would, until the test is over.
type program struct {
	*processes.Process

	mu      sync.Mutex
	stopped bool
	starts  int
	over    chan struct{} // closed when it is started no more
}

// restartAfter is how long a supervisor waits, so that a program that cannot start does not spin.
const restartAfter = 100 * time.Millisecond

// start runs a program until the end of the test.
func start(tb testing.TB, c processes.Command) *program {
	tb.Helper()
	p := &program{Process: processes.NewProcess(c), over: make(chan struct{})}
	go p.supervise()
	tb.Cleanup(func() {
		p.end()
		if tb.Failed() {
			tb.Logf("the end of the log of %s:\n%s", p.Name, p.Log())
		}
	})
	return p
}

func (p *program) supervise() {
	defer close(p.over)
	for p.begin() {
		<-p.Ended()
		let(restartAfter)
	}
}

// begin is false when the program is to be started no more.
func (p *program) begin() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped {
		return false
	}
	if p.Begin() == nil { // else it is tried again
		p.starts++
	}
	return true
}

// signal sends a signal to the program, if it runs.
func (p *program) signal(s syscall.Signal) { _ = p.Signal(s) } // it may have just ended

func (p *program) kill()   { p.signal(syscall.SIGKILL) }
func (p *program) pause()  { p.signal(syscall.SIGSTOP) }
func (p *program) resume() { p.signal(syscall.SIGCONT) }

// hold ends the program and starts it no more.
func (p *program) hold() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.kill()
	<-p.over
}

func (p *program) end() {
	p.mu.Lock()
	p.stopped = true
	p.mu.Unlock()
	p.signal(syscall.SIGCONT)
	p.signal(syscall.SIGTERM)
	select {
	case <-p.over:
	case <-time.After(20 * time.Second):
		p.kill()
		<-p.over
	}
}

// restarts is how often it was started again.
func (p *program) restarts() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, p.starts-1)
}

// ready tells whether the program says that it works.
func (p *program) ready() bool { return p.Ready(context.Background()) == nil }

// metric reads a value without labels, or the sum over its labels; 0 when there is none.
func (p *program) metric(tb testing.TB, name string) float64 {
	tb.Helper()
	all, err := process.Metrics(tb.Context(), strings.TrimPrefix(p.Admin, "http://"))
	require.NoError(tb, err, p.Name)
	sum := 0.0
	for series, v := range all {
		if bare, _, _ := strings.Cut(series, "{"); bare == name {
			sum += v
		}
	}
	return sum
}

// freeAddress is an address on loopback that nobody listens on now.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	address, err := process.FreeAddress(tb.Context())
	require.NoError(tb, err)
	return address
}

// let lets time pass: here it is time in which things go wrong, or nothing happens.
func let(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // there is no condition to wait for
