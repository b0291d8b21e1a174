package limiter_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/limiter"
)

const patience = time.Minute

func TestMain(m *testing.M) { actAsChild(); localtest.VerifyTestMain(m) }

// platform is NATS with a limiter on it.
type platform struct {
	nats    *local.Server
	bus     *bus.Bus
	rt      *daemon.Runtime
	metrics *prometheus.Registry
}

// startNATS runs a server that other processes can reach, until the test ends.
func startNATS(tb testing.TB) *local.Server {
	tb.Helper()
	server, err := local.Start(local.Options{Dir: tb.TempDir(), Addr: "127.0.0.1", Port: -1})
	require.NoError(tb, err)
	tb.Cleanup(server.Stop)
	return server
}

func connect(tb testing.TB, server *local.Server, name string) *bus.Bus {
	tb.Helper()
	b, err := bus.Connect(tb.Context(), bus.Config{URL: server.ClientURL(), InProcess: server, Name: name, Log: zap.NewNop()})
	require.NoError(tb, err)
	tb.Cleanup(b.Close)
	return b
}

// start runs a limiter on its own connection until the test ends.
func start(tb testing.TB, environ ...string) *platform {
	tb.Helper()
	p := &platform{nats: startNATS(tb)}
	p.bus = connect(tb, p.nats, "test")
	p.rt, p.metrics = runLimiter(tb, p.nats, environ...)
	return p
}

func runLimiter(tb testing.TB, server *local.Server, environ ...string) (*daemon.Runtime, *prometheus.Registry) {
	tb.Helper()
	// A test that is not about slowness must not fail on a slow machine.
	cfg, err := daemon.Load[limiter.Config](append([]string{"LOG_LEVEL=error", "REDIS_TIMEOUT_MS=5000"}, environ...))
	require.NoError(tb, err)
	rt, err := daemon.NewRuntime("limiter", cfg.Common)
	require.NoError(tb, err)
	registry := prometheus.NewRegistry()
	rt.Metrics = registry
	b := connect(tb, server, "limiter")
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- limiter.Run(ctx, rt, b, cfg) }()
	tb.Cleanup(func() {
		stop()
		require.NoError(tb, <-ended)
		require.NoError(tb, rt.Close(context.Background()))
	})
	asker := connect(tb, server, "asker")
	require.Eventually(tb, func() bool {
		_, err := bus.Request(tb.Context(), asker, protocol.LimitUsage, protocol.UsageRequest{Tenant: "acme", Queue: "is it there"})
		return !errors.Is(err, bus.ErrUnavailable)
	}, patience, 5*time.Millisecond)
	return rt, registry
}

func (p *platform) acquire(tb testing.TB, r protocol.AcquireRequest) (protocol.Grant, error) {
	tb.Helper()
	return bus.Request(tb.Context(), p.bus, protocol.AcquireLimit, r)
}

func (p *platform) client(tb testing.TB, environ ...string) *limits.Client {
	tb.Helper()
	cfg, err := daemon.Load[clientConfig](append([]string{"RATE_LIMIT_TIMEOUT_MS=5000"}, environ...))
	require.NoError(tb, err)
	c := limits.NewClient(p.bus, cfg.Config, zap.NewNop(), prometheus.NewRegistry())
	tb.Cleanup(func() { require.NoError(tb, c.Close(context.Background())) })
	return c
}

type clientConfig struct {
	daemon.Common
	limits.Config
}

// metric is the value of a counter or gauge of the limiter, over the label values given.
func (p *platform) metric(tb testing.TB, name string, labels ...string) float64 {
	tb.Helper()
	families, err := p.metrics.Gather()
	require.NoError(tb, err)
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			have := map[string]bool{}
			for _, l := range m.GetLabel() {
				have[l.GetValue()] = true
			}
			all := true
			for _, l := range labels {
				all = all && have[l]
			}
			if all {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}
