package limiter_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/limiter"
)

// The proof: three limiters and three clients in processes of their own, on one Redis and one
// NATS, with ten times more asks than the limits let through.

// proofSeconds is how long the long form runs when the environment asks for it.
const proofSeconds = "AGENTFLOW_PROOF_SECONDS"

// childRole makes the test binary one of the proof's processes.
const childRole = "AGENTFLOW_PROOF_ROLE"

const overload = 10

// stream is one queue that the clients ask for.
type stream struct {
	Name   string
	Limits workflow.Bandwidth
	Tokens int  // of each ask
	Waits  bool // in line, as an executor does; else let in or refused at once, as a gateway does
}

var streams = []stream{
	{Name: "burst", Limits: workflow.Bandwidth{MaxMessagesPerSecond: 200, BurstSize: 40}},
	{Name: "even", Limits: workflow.Bandwidth{MaxMessagesPerSecond: 100}},
	{Name: "minute", Limits: workflow.Bandwidth{MaxRequestsPerMinute: 300}},
	{Name: "tokens", Limits: workflow.Bandwidth{MaxTokensPerMinute: 90_000}, Tokens: 450},
	{Name: "line", Limits: workflow.Bandwidth{MaxMessagesPerSecond: 100, BurstSize: 20}, Waits: true},
}

// perSecond is how many asks a second a stream's limits let through; those of a minute are all
// asked for in the proof's short form too.
func (s stream) perSecond() int {
	switch l := s.Limits; {
	case l.MaxMessagesPerSecond > 0:
		return l.MaxMessagesPerSecond
	case l.MaxRequestsPerMinute > 0:
		return l.MaxRequestsPerMinute / 10
	default:
		return l.MaxTokensPerMinute / s.Tokens / 10
	}
}

func (s stream) ask() protocol.AcquireRequest {
	return protocol.AcquireRequest{Tenant: "acme", Queue: s.Name, Limits: s.Limits, Messages: 1, Requests: 1, Tokens: s.Tokens}
}

// tally is what one client saw of one stream.
type tally struct {
	Passed []int64 // moments by Redis's clock, microseconds
	Asked  int
	Calls  int
	Failed int
}

func TestProof(t *testing.T) {
	long := os.Getenv(proofSeconds) != ""
	duration, least := 3*time.Second, 0.0 // how much of its limit a busy machine can use says nothing
	if long {
		seconds, err := strconv.Atoi(os.Getenv(proofSeconds))
		require.NoError(t, err)
		duration, least = time.Duration(seconds)*time.Second, 0.95
	}
	nats, redis := startNATS(t), localtest.Redis(t)
	environ := []string{"NATS_URL=" + nats.ClientURL(), "REDIS_URL=" + redis}
	limiters := make([]*child, 3)
	for i := range limiters {
		limiters[i] = startChild(t, "limiter", environ...)
	}
	clients := make([]*child, 3)
	for i := range clients {
		clients[i] = startChild(t, "client", append(environ, proofSeconds+"="+fmt.Sprint(duration.Seconds()))...)
		require.Equal(t, "ready", clients[i].line(t))
	}
	for _, c := range clients {
		c.tell(t, "go")
	}
	sum := map[string]tally{}
	for _, c := range clients {
		for name, seen := range c.result(t) {
			all := sum[name]
			all.Passed = append(all.Passed, seen.Passed...)
			all.Asked, all.Calls, all.Failed = all.Asked+seen.Asked, all.Calls+seen.Calls, all.Failed+seen.Failed
			sum[name] = all
		}
	}
	for _, l := range limiters {
		require.NoError(t, l.in.Close())
		answered, err := strconv.Atoi(l.line(t))
		require.NoError(t, err)
		require.Positive(t, answered, "every limiter took part")
	}
	for _, s := range streams {
		seen := sum[s.Name]
		slices.Sort(seen.Passed)
		l, passed := s.Limits, len(seen.Passed)
		second, minute := most(seen.Passed, time.Second), most(seen.Passed, time.Minute)
		could := l.MaxMessagesPerSecond * int(duration.Seconds())
		if could == 0 {
			could = max(l.MaxRequestsPerMinute, l.MaxTokensPerMinute/max(1, s.Tokens))
		}
		used := float64(passed) / float64(could)
		t.Logf("%-6s asked %6d, passed %5d (%5.1f %%), most in a second %4d, in a minute %5d, calls per permit %.2f",
			s.Name, seen.Asked, passed, 100*used, second, minute, float64(seen.Calls)/float64(passed))

		require.Zero(t, seen.Failed, s.Name)
		if l.MaxMessagesPerSecond > 0 {
			require.LessOrEqual(t, second, l.MaxMessagesPerSecond+l.BurstSize, s.Name)
		}
		if l.MaxRequestsPerMinute > 0 {
			require.LessOrEqual(t, minute, l.MaxRequestsPerMinute, s.Name)
		}
		if l.MaxTokensPerMinute > 0 {
			require.LessOrEqual(t, minute*s.Tokens, l.MaxTokensPerMinute, s.Name)
		}
		require.NotEmpty(t, seen.Passed, s.Name)
		require.GreaterOrEqual(t, used, least, s.Name)
		if s.Waits && long {
			require.LessOrEqual(t, float64(seen.Calls)/float64(passed), 1.5, s.Name)
		}
	}
}

// most is the largest number of moments within one length of time.
func most(moments []int64, length time.Duration) int {
	top, from := 0, 0
	for i, at := range moments {
		for moments[from] <= at-length.Microseconds() {
			from++
		}
		top = max(top, i-from+1)
	}
	return top
}

// ── The processes ──

type child struct {
	out *bufio.Scanner
	in  io.WriteCloser
}

func startChild(t *testing.T, role string, environ ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), append(environ, childRole+"="+role, "LOG_LEVEL=error", "RATE_LIMIT_FAIL=closed", "REDIS_TIMEOUT_MS=5000", "RATE_LIMIT_TIMEOUT_MS=10000")...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close() // its sign to end
		require.NoError(t, cmd.Wait(), role)
	})
	scanner := bufio.NewScanner(out)
	scanner.Buffer(nil, 64<<20)
	return &child{out: scanner, in: in}
}

func (c *child) line(t *testing.T) string {
	t.Helper()
	require.True(t, c.out.Scan(), "the process ended early")
	return c.out.Text()
}

func (c *child) tell(t *testing.T, line string) {
	t.Helper()
	_, err := fmt.Fprintln(c.in, line)
	require.NoError(t, err)
}

func (c *child) result(t *testing.T) map[string]tally {
	t.Helper()
	var r map[string]tally
	require.NoError(t, json.Unmarshal([]byte(c.line(t)), &r))
	return r
}

// actAsChild does not return in one of the proof's processes.
func actAsChild() {
	var err error
	switch os.Getenv(childRole) {
	case "":
		return
	case "limiter":
		err = limiterProcess()
	case "client":
		err = clientProcess()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// limiterProcess is a limiter until its input ends, and then says how many calls it answered.
func limiterProcess() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	cfg, err := daemon.Load[limiter.Config](os.Environ())
	if err != nil {
		return err
	}
	rt, err := daemon.NewRuntime("limiter", cfg.Common)
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	rt.Metrics = registry
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	if err := limiter.Main(ctx, rt, cfg); err != nil {
		return err
	}
	fmt.Println(total(registry, "agentflow_limiter_calls_total"))
	return nil
}

// clientProcess asks as fast as the proof wants and tells what passed.
func clientProcess() error {
	seconds, err := strconv.ParseFloat(os.Getenv(proofSeconds), 64)
	if err != nil {
		return err
	}
	cfg, err := daemon.Load[clientConfig](os.Environ())
	if err != nil {
		return err
	}
	b, err := bus.Connect(context.Background(), bus.Config{URL: os.Getenv("NATS_URL"), Name: "client"})
	if err != nil {
		return err
	}
	defer b.Close()
	if err := waitForLimiter(b); err != nil {
		return err
	}
	fmt.Println("ready")
	input := bufio.NewScanner(os.Stdin)
	if !input.Scan() {
		return errors.New("not told to go")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Duration(seconds*float64(time.Second)))
	defer cancel()
	results := map[string]tally{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, s := range streams {
		all.Go(func() {
			registry := prometheus.NewRegistry()
			client := limits.NewClient(b, cfg.Config, zap.NewNop(), registry)
			seen := drive(ctx, s, client)
			seen.Calls = total(registry, "agentflow_limits_asks_total")
			_ = client.Close(ctx)
			mu.Lock()
			defer mu.Unlock()
			results[s.Name] = seen
		})
	}
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(results); err != nil {
		return err
	}
	input.Scan() // until the parent has read it all
	return nil
}

func waitForLimiter(b *bus.Bus) error {
	for range 500 {
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		_, err := bus.Request(ctx, b, protocol.LimitUsage, protocol.UsageRequest{Tenant: "acme", Queue: "is it there"})
		if err == nil {
			cancel()
			return nil
		}
		<-ctx.Done()
		cancel()
	}
	return errors.New("no limiter answers")
}

// drive asks at this process's third of ten times the limit, however slow the answers are.
func drive(ctx context.Context, s stream, c *limits.Client) tally {
	gate, queue := limits.NewGate(c), limits.NewQueue(c)
	const tick = 10 * time.Millisecond
	var (
		mu   sync.Mutex
		seen tally
		all  sync.WaitGroup
	)
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	began := time.Now()
	rate := float64(s.perSecond()*overload) / 3
	for asked := 0; ; {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			all.Wait()
			seen.Asked = asked
			return seen
		}
		for ; float64(asked) < rate*time.Since(began).Seconds(); asked++ {
			all.Go(func() {
				var g protocol.Grant
				var err error
				if s.Waits {
					g, err = queue.Acquire(ctx, s.ask(), nil)
				} else {
					g, err = gate.Ask(context.WithoutCancel(ctx), s.ask())
				}
				mu.Lock()
				defer mu.Unlock()
				switch {
				case err == nil && g.Granted:
					seen.Passed = append(seen.Passed, g.AtUS)
				case err != nil && protocol.CodeOf(err) != protocol.CodeRateLimited:
					seen.Failed++
				}
			})
		}
	}
}

// total is the sum of a counter over all its labels.
func total(registry *prometheus.Registry, name string) int {
	families, _ := registry.Gather()
	sum := 0.0
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name {
				sum += m.GetCounter().GetValue()
			}
		}
	}
	return int(sum)
}
