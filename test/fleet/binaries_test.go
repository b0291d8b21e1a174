package fleet_test

import (
	"context"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/test/fleet"
)

// run runs a service's binary to its end.
func run(t *testing.T, service string, env []string, args ...string) (output string, err error) {
	t.Helper()
	bin, err := fleet.Binaries()
	require.NoError(t, err)
	p := fleet.NewProcess(fleet.Command{Name: service, Dir: t.TempDir(), Args: append([]string{filepath.Join(bin, service)}, args...), Env: env})
	err = p.Run(context.WithoutCancel(t.Context()))
	return p.Log(), err
}

// TestBinaries: every binary tells of its variables, and a configuration that is wrong ends it at its start, with every
// problem named.
func TestBinaries(t *testing.T) {
	own := map[access.Role]struct{ variable, set, wrong string }{
		access.Gateway:  {"HTTP_ADDR  (default :8000", "HTTP_ADDR=nowhere", "HTTP_ADDR"},
		access.Catalog:  {"DB_POOL_SIZE  (default 20", "DB_POOL_SIZE=0", "DB_POOL_SIZE"},
		access.Executor: {"EXECUTOR_CONCURRENCY  (default 256", "EXECUTOR_CONCURRENCY=many", "EXECUTOR_CONCURRENCY"},
		access.Limiter:  {"REDIS_URL  (default redis://127.0.0.1:6379/0", "REDIS_URL=http://redis", "REDIS_URL"},
	}
	for _, service := range access.Services() {
		t.Run(string(service), func(t *testing.T) {
			help, err := run(t, string(service), nil, "--help")
			require.NoError(t, err)
			for _, variable := range []string{
				own[service].variable, "NATS_URL  (default nats://127.0.0.1:4222)", "NATS_NKEY_FILE", "SHUTDOWN_TIMEOUT_SECONDS  (default 25", "LOG_LEVEL  (default info",
			} {
				require.Contains(t, help, variable)
			}
			for _, args := range [][]string{nil, {"healthcheck"}} {
				said, err := run(t, string(service), []string{
					"LOG_LEVEL=shout", "ADMIN_ADDR=nowhere", "NATS_NKEY_FILE=/missing", "EXECUTION_PARTITIONS=0", "SHUTDOWN_TIMEOUT_SECONDS=soon", own[service].set,
				}, args...)
				require.ErrorContains(t, err, "exit status 2")
				for _, variable := range []string{"LOG_LEVEL", "ADMIN_ADDR", "NATS_NKEY_FILE", "EXECUTION_PARTITIONS", "SHUTDOWN_TIMEOUT_SECONDS", own[service].wrong} {
					require.Contains(t, said, "  "+variable, "all of it at once")
				}
			}
		})
	}
}
