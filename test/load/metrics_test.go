package load

import (
	"fmt"
	"net/http"
	"strings"
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

// sum is that of all series of a name.
func sum(t *testing.T, name string) (n float64) {
	t.Helper()
	for series, v := range metrics(t) {
		if bare, _, _ := strings.Cut(series, "{"); bare == name {
			n += v
		}
	}
	return n
}

// holdings is what a process holds that it may leak.
type holdings struct {
	goroutines, files, connections, heap, resident float64
}

func (h holdings) String() string {
	return fmt.Sprintf("%.0f goroutines, %.0f files, %.0f database connections, %.1f MB in use of %.0f MB resident",
		h.goroutines, h.files, h.connections, h.heap/(1<<20), h.resident/(1<<20))
}

func held(t *testing.T) holdings {
	t.Helper()
	m := metrics(t)
	get := func(series string) float64 {
		require.Contains(t, m, series)
		return m[series]
	}
	return holdings{
		goroutines: get("go_goroutines"), files: get("process_open_fds"), resident: get("process_resident_memory_bytes"),
		heap: get("go_memstats_heap_alloc_bytes"), connections: get(`agentflow_db_pool_connections{service="catalog",state="in_use"}`),
	}
}

// collect frees what nobody uses any more: when the collector comes by itself says nothing about a leak.
func collect(t *testing.T) {
	t.Helper()
	for range 2 { // what a pool keeps outlives the first time
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+shared.Ready().AdminAddr+"/debug/pprof/heap?gc=1", http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.Equal(t, http.StatusOK, resp.StatusCode)
	}
}
