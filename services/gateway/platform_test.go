package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/leaktest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/gateway"
	"github.com/agentflow/agentflow/services/gateway/contract"
)

func TestMain(m *testing.M) {
	leaktest.VerifyTestMain(m)
}

// Bounds of waiting for something that is to happen soon.
const (
	waitFor = 30 * time.Second
	tick    = 5 * time.Millisecond
)

const adminKey = "admin-key-of-the-tests"

// platform is a gateway over a real NATS server, with stand-ins for the services behind it.
type platform struct {
	t        testing.TB
	bus      *bus.Bus
	nats     *local.Server
	catalog  *catalog
	executor *executor
	url      string
	client   *http.Client
	metrics  *prometheus.Registry // of the gateway that was started last
}

// document is the OpenAPI document of the gateways here, which every answer is held against. It is the same
// for all of them.
func document(url string) (*contract.Contract, error) {
	described.Do(func() {
		wire := &http.Transport{DisableKeepAlives: true}
		raw, err := contract.Fetch(url, wire)
		if err != nil {
			described.err = err
			return
		}
		described.contract, described.err = contract.Load(raw)
	})
	return described.contract, described.err
}

var described struct {
	sync.Once
	contract *contract.Contract
	err      error
}

type option func(*gateway.Config)

func withoutKeys(c *gateway.Config) { c.AuthRequired = false }

// start brings a platform up, and down when the test ends.
func start(t testing.TB, options ...option) *platform {
	t.Helper()
	ns, err := local.Start(local.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(ns.Stop)
	wire := &http.Transport{MaxIdleConnsPerHost: 256}
	p := &platform{t: t, nats: ns, client: &http.Client{Transport: wire}}
	if _, measured := t.(*testing.B); !measured {
		p.client.Transport = contract.Transport{Base: wire, Contract: document, Report: func(err error) { t.Error(err) }}
	}
	p.bus = p.connect()
	p.catalog = standInCatalog(t, p.bus)
	p.executor = standInExecutor(t, p.bus)
	p.url = p.gateway(options...)
	t.Cleanup(wire.CloseIdleConnections)
	return p
}

func (p *platform) connect() *bus.Bus {
	p.t.Helper()
	b, err := bus.Connect(p.t.Context(), bus.Config{
		InProcess: p.nats, Partitions: 2, Replicas: 1, MaxBytes: 64 << 20, CreateLayout: true, Name: "test",
	})
	require.NoError(p.t, err)
	p.t.Cleanup(b.Close)
	return b
}

// gateway starts one more gateway on the platform and returns its address, when it is ready.
func (p *platform) gateway(options ...option) string {
	p.t.Helper()
	url, _ := p.stoppable(options...)
	return url
}

// stoppable is gateway, with a function that asks it to end and waits until it has.
func (p *platform) stoppable(options ...option) (string, func() error) {
	p.t.Helper()
	cfg, err := daemon.Load[gateway.Config]([]string{"LOG_LEVEL=error", "SHUTDOWN_TIMEOUT_SECONDS=10", "RATE_LIMIT_TIMEOUT_MS=10000", "AGENTFLOW_ADMIN_KEY=" + adminKey})
	require.NoError(p.t, err)
	for _, o := range options {
		o(&cfg)
	}
	cfg.Listener, err = (&net.ListenConfig{}).Listen(p.t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(p.t, err)
	rt, err := daemon.NewRuntime("gateway", cfg.Common)
	require.NoError(p.t, err)
	p.metrics = prometheus.NewRegistry()
	rt.Metrics = p.metrics
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	b := p.connect()
	go func() { done <- gateway.Run(ctx, rt, b, cfg) }()
	var once sync.Once
	var result error
	stop := func() error {
		once.Do(func() {
			cancel()
			result = <-done
			_ = rt.Close(context.Background())
		})
		return result
	}
	p.t.Cleanup(func() { require.NoError(p.t, stop()) })
	url := "http://" + cfg.Listener.Addr().String()
	require.Eventually(p.t, func() bool {
		resp, err := p.client.Get(url + "/health/ready")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, waitFor, tick)
	return url, stop
}

// answer is what came back.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// json decodes the body.
func (a answer) json(t testing.TB) map[string]any {
	t.Helper()
	var v map[string]any
	require.NoError(t, json.Unmarshal(a.body, &v), "body: %s", a.body)
	return v
}

// call makes a request. Headers are name, value, name, value, …
func (p *platform) call(method, path, body string, headers ...string) answer {
	p.t.Helper()
	return p.at(p.url, method, path, body, headers...)
}

func (p *platform) at(url, method, path, body string, headers ...string) answer {
	p.t.Helper()
	req, err := http.NewRequestWithContext(p.t.Context(), method, url+path, strings.NewReader(body))
	require.NoError(p.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	req.Host = req.Header.Get("Host") // "" is that of the address
	resp, err := p.client.Do(req)
	require.NoError(p.t, err)
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return answer{resp.StatusCode, resp.Header, bytes.TrimSpace(b)}
}

// executor stands in for the executor: it takes jobs and ends each as its script says.
type executor struct {
	t   testing.TB
	bus *bus.Bus

	mu     sync.Mutex
	script func(job *bus.Job, req protocol.Requested) protocol.Event // nil event: leave it running
	runs   map[protocol.ExecutionID]int
	mute   bool // sends no replies
}

func standInExecutor(t testing.TB, b *bus.Bus) *executor {
	t.Helper()
	e := &executor{t: t, bus: b, runs: map[protocol.ExecutionID]int{}, script: complete}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for part := range b.Partitions() {
		queue, err := b.Jobs(ctx, part, bus.JobPolicy{AckWait: 30 * time.Second, MaxDeliver: 100})
		require.NoError(t, err)
		wg.Go(func() {
			for ctx.Err() == nil {
				_, _ = queue.Fetch(64, time.Second, func(j *bus.Job) { e.take(ctx, j) }, func(m jetstream.Msg, _ error) { _ = m.Term() })
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return e
}

// complete is the usual script: the state is the initial state, as any workflow begins.
func complete(job *bus.Job, req protocol.Requested) protocol.Event {
	input, err := req.Input.Values()
	if err != nil {
		return protocol.Failed{Error: protocol.Failure{Code: protocol.CodeInternal, Message: err.Error()}}
	}
	state := workflow.Reduce(workflow.NewValues(input), workflow.Values{"metadata": map[string]any{"execution_id": string(job.Key.ID)}})
	return protocol.Completed{State: protocol.ObjectOf(state), Totals: protocol.Totals{TokensUsed: 7, Cost: "0.0012", NodesRun: 1, DurationMS: 3}}
}

func (e *executor) follow(script func(*bus.Job, protocol.Requested) protocol.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.script = script
}

func (e *executor) silent() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mute = true
}

func (e *executor) count() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	n := 0
	for _, runs := range e.runs {
		n += runs
	}
	return n
}

func (e *executor) take(ctx context.Context, j *bus.Job) {
	req, ok := j.Record.Events[0].Event.(protocol.Requested)
	if !ok {
		return
	}
	e.mu.Lock()
	e.runs[j.Key.ID]++
	script, mute := e.script, e.mute
	e.mu.Unlock()
	end := script(j, req)
	if end == nil {
		return
	}
	commit := protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: end}}}
	if _, err := e.bus.Append(ctx, j.Key, j.Record.Sequence, commit); err != nil {
		return // cancelled meanwhile: the script knows
	}
	body, err := protocol.EncodeCommit(commit)
	if err == nil && req.Reply != "" && !mute {
		_ = e.bus.Reply(req.Reply, body)
	}
	_ = j.Ack()
}
