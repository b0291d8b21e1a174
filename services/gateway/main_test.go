package gateway_test

import (
	"context"
	"net"
	"net/http"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/gateway"
)

// runtimeOf is a gateway's runtime, with metrics of its own.
func runtimeOf(t *testing.T, environ ...string) (*daemon.Runtime, gateway.Config) {
	t.Helper()
	cfg, err := daemon.Load[gateway.Config](append([]string{"LOG_LEVEL=error"}, environ...))
	require.NoError(t, err)
	rt, err := daemon.NewRuntime("gateway", cfg.Common)
	require.NoError(t, err)
	rt.Metrics = prometheus.NewRegistry()
	t.Cleanup(func() { require.NoError(t, rt.Close(context.Background())) })
	return rt, cfg
}

// TestMainConnects: as a process of its own a gateway connects to NATS by itself, and ends in order.
func TestMainConnects(t *testing.T) {
	server, err := local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	rt, cfg := runtimeOf(t, "NATS_URL="+server.ClientURL(), "NATS_CREATE_STREAMS=true", "EXECUTION_PARTITIONS=1")
	cfg.Listener, err = (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- gateway.Main(ctx, rt, cfg) }()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	require.Eventually(t, func() bool {
		resp, err := client.Get("http://" + cfg.Listener.Addr().String() + "/health/live")
		if err != nil {
			return false
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}, waitFor, tick)
	require.Equal(t, daemon.StatusOK, rt.Health.Ready(t.Context()).Checks["nats"].Status)
	cancel()
	require.NoError(t, <-ended)
}

// TestThePortIsTaken: a gateway without its port ends, and says which.
func TestThePortIsTaken(t *testing.T) {
	p := start(t)
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	rt, cfg := runtimeOf(t, "HTTP_ADDR="+taken.Addr().String())
	err = gateway.Run(t.Context(), rt, p.bus, cfg)
	require.ErrorContains(t, err, "open HTTP port")
	require.ErrorContains(t, err, taken.Addr().String())
}

// TestConfig: what cannot be is said all at once, and no secret with it.
func TestConfig(t *testing.T) {
	_, err := daemon.Load[gateway.Config]([]string{"DEV_TENANT=*", "AGENTFLOW_ADMIN_KEY=too-short", "CORS_ORIGINS=app.example.com"})
	for _, said := range []string{"DEV_TENANT", "AGENTFLOW_ADMIN_KEY", "at least 16", "openssl rand", "CORS_ORIGINS", "https://app.example.com"} {
		require.ErrorContains(t, err, said)
	}
	require.NotContains(t, err.Error(), "too-short")
	_, err = daemon.Load[gateway.Config]([]string{"CORS_ORIGINS=https://app.example.com,http://localhost:3000", "AGENTFLOW_ADMIN_KEY=" + adminKey})
	require.NoError(t, err)
}
