package limits

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// proofSeconds is how long the long form runs when the environment asks for it.
const proofSeconds = "AGENTFLOW_PROOF_SECONDS"

// overload is how many times the limit is asked for.
const overload = 10

// stream is a tenant with a limit, and clients that ask for ten times as much.
type stream struct {
	name            string
	perSecond       int // 0: no such limit
	burst           int
	perMinute       int // 0: no such limit
	asked, failures int
	passed          []passage
}

// passage is one request that was let in, at some moment between the two.
type passage struct{ sent, answered time.Time }

// proof: at ten times the limit through three gateways no window lets more pass than it may, and the limit is used.
// What is certain is counted: a request that was sent and answered within a window was let in within it.
func (w *world) proof(t *testing.T) {
	duration, least := 3*time.Second, 0.0 // how much of its limit a busy machine can use says nothing
	if long := os.Getenv(proofSeconds); long != "" {
		seconds, err := strconv.Atoi(long)
		require.NoError(t, err)
		duration, least = time.Duration(seconds)*time.Second, 0.95
	}
	streams := []*stream{
		{name: "even", perSecond: 15},
		{name: "burst", perSecond: 10, burst: 15},
		{name: "minute", perMinute: 60},
	}
	var wg sync.WaitGroup
	for _, s := range streams {
		limits := object{}
		if s.perSecond > 0 {
			limits["max_messages_per_second"], limits["burst_size"] = s.perSecond, s.burst
		}
		if s.perMinute > 0 {
			limits["max_requests_per_minute"] = s.perMinute
		}
		if s.burst == 0 {
			delete(limits, "burst_size")
		}
		clients := w.tenant(t, name("proof", s.name), limits)
		wg.Go(func() { s.drive(t, clients, duration) })
	}
	wg.Wait()
	for _, s := range streams {
		second, minute := s.most(time.Second), s.most(time.Minute)
		could := s.burst + s.perSecond*int(duration.Seconds())
		if s.perMinute > 0 {
			could = min(s.perMinute, s.asked)
		}
		used := float64(len(s.passed)) / float64(could)
		t.Logf("%-6s asked %5d, passed %4d (%5.1f %%), most for certain in a second %3d, in a minute %4d",
			s.name, s.asked, len(s.passed), 100*used, second, minute)
		require.Zero(t, s.failures, s.name)
		if s.perSecond > 0 {
			require.LessOrEqual(t, second, s.perSecond+s.burst, s.name)
		}
		if s.perMinute > 0 {
			require.LessOrEqual(t, minute, s.perMinute, s.name)
		}
		require.NotEmpty(t, s.passed, s.name)
		require.GreaterOrEqual(t, used, least, s.name)
	}
}

// drive asks at ten times the limit, through all gateways in turn, however slow the answers are.
func (s *stream) drive(t *testing.T, clients []platform.Client, duration time.Duration) {
	t.Helper()
	rate := float64(overload * s.perSecond)
	if s.perMinute > 0 {
		rate = float64(overload*s.perMinute) / duration.Seconds() // all of the minute's, and nine times more
	}
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	began := time.Now()
	for now := began; now.Sub(began) < duration; now = <-ticker.C {
		for ; float64(s.asked) < rate*now.Sub(began).Seconds(); s.asked++ {
			c := clients[s.asked%len(clients)]
			wg.Go(func() {
				p := passage{sent: time.Now()}
				a, err := c.Try(t, http.MethodGet, cheap, nil)
				p.answered = time.Now()
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && a.Status == http.StatusOK:
					s.passed = append(s.passed, p)
				case err != nil || a.Status != http.StatusTooManyRequests:
					s.failures++
					t.Log(fmt.Sprint(err), a.Status, string(a.Body))
				}
			})
		}
	}
	wg.Wait()
}

// most is the largest number of requests that were certainly let in within one window of a length.
func (s *stream) most(length time.Duration) int {
	top := 0
	for _, first := range s.passed {
		n := 0
		for _, p := range s.passed {
			if !p.sent.Before(first.sent) && !p.answered.After(first.sent.Add(length)) {
				n++
			}
		}
		top = max(top, n)
	}
	return top
}
