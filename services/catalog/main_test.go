package catalog_test

import (
	"context"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/catalog"
)

// TestMainConnects: as a process of its own catalog connects to NATS by itself, makes its tables, and ends in order.
func TestMainConnects(t *testing.T) {
	t.Parallel()
	server, err := local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	cfg, err := daemon.Load[catalog.Config]([]string{
		"LOG_LEVEL=error", "NATS_URL=" + server.ClientURL(), "NATS_CREATE_STREAMS=true", "EXECUTION_PARTITIONS=1", "DATABASE_URL=" + localtest.Postgres(t),
	})
	require.NoError(t, err)
	rt, err := daemon.NewRuntime("catalog", cfg.Common)
	require.NoError(t, err)
	rt.Metrics = prometheus.NewRegistry()
	t.Cleanup(func() { require.NoError(t, rt.Close(context.Background())) })
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- catalog.Main(ctx, rt, cfg) }()

	// What is sent before catalog is there waits for it.
	asking, done := context.WithTimeout(t.Context(), waitFor)
	defer done()
	b, err := bus.Connect(t.Context(), bus.Config{URL: server.ClientURL(), Partitions: 1, Replicas: 1, MaxBytes: 64 << 20, CreateLayout: true})
	require.NoError(t, err)
	defer b.Close()
	made, err := bus.SendCommand[protocol.Tenant](asking, b, protocol.Command{
		ID: typeid.New("cmd"), Tenant: "acme", Verb: protocol.VerbTenantCreate, Actor: "tester", Data: []byte(`{"name":"Acme"}`),
	})
	require.NoError(t, err)
	require.Equal(t, "Acme", made.Name)
	require.Equal(t, daemon.StatusOK, rt.Health.Ready(t.Context()).Checks["nats"].Status)
	cancel()
	require.NoError(t, <-ended)
}

// TestConfig: what cannot be is said all at once, and no secret with it.
func TestConfig(t *testing.T) {
	t.Parallel()
	_, err := daemon.Load[catalog.Config](nil)
	require.ErrorContains(t, err, "DATABASE_URL")
	_, err = daemon.Load[catalog.Config]([]string{"DATABASE_URL=mysql://user:PLANTED@host/db", "DB_POOL_SIZE=0", "EXECUTION_RETENTION_DAYS=-1"})
	for _, said := range []string{"DATABASE_URL", "DB_POOL_SIZE", "EXECUTION_RETENTION_DAYS"} {
		require.ErrorContains(t, err, said)
	}
	require.NotContains(t, err.Error(), "PLANTED")
}
