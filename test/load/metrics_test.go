package load

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/process"
)

// metrics reads what the platform exposes.
func metrics(t *testing.T) map[string]float64 {
	t.Helper()
	m, err := process.Metrics(t.Context(), shared.Ready().AdminAddr)
	require.NoError(t, err)
	return m
}

// metric is one series, which must be there.
func metric(t *testing.T, series string) float64 {
	t.Helper()
	v, ok := metrics(t)[series]
	require.True(t, ok, series)
	return v
}

// holdings is what a process holds that it may leak.
type holdings struct {
	goroutines, files, resident, connections float64
}

func (h holdings) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f files, %.0f MB resident, %.0f database connections", h.goroutines, h.files, h.resident/(1<<20), h.connections)
}

func held(t *testing.T) holdings {
	t.Helper()
	m := metrics(t)
	for _, name := range []string{"go_goroutines", "process_open_fds", "process_resident_memory_bytes", `agentflow_db_pool_connections{service="catalog",state="in_use"}`} {
		require.Contains(t, m, name)
	}
	return holdings{
		goroutines: m["go_goroutines"], files: m["process_open_fds"], resident: m["process_resident_memory_bytes"],
		connections: m[`agentflow_db_pool_connections{service="catalog",state="in_use"}`],
	}
}
