package load

import (
	"net/http"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// TestManyRequestsOnAFewConnections sends 200 requests at a time that need Postgres, of which the pool
// has five connections: they wait for their turn, none fails, and every connection comes back.
func TestManyRequestsOnAFewConnections(t *testing.T) {
	t.Cleanup(func() { shared.Explain(t) })
	require.InDelta(t, 5, metric(t, `agentflow_db_pool_connections_limit{service="catalog"}`), 0)
	before := metric(t, `agentflow_db_pool_waited_total{service="catalog"}`)
	const atOnce, rounds = 200, 5
	var wg sync.WaitGroup
	bad := make(chan string, atOnce*rounds)
	for range atOnce {
		wg.Go(func() {
			for range rounds {
				a, err := shared.Try(t, http.MethodGet, "/executions?limit=50", nil)
				switch {
				case err != nil:
					bad <- err.Error()
				case a.Status != http.StatusOK:
					bad <- string(a.Body)
				}
			}
		})
	}
	wg.Wait()
	close(bad)
	for what := range bad {
		t.Error(what)
	}
	require.Greater(t, metric(t, `agentflow_db_pool_waited_total{service="catalog"}`), before, "nobody had to wait: the pool was not put to the test")
	require.Zero(t, metric(t, `agentflow_db_pool_timeouts_total{service="catalog"}`))
	platform.Await(t, "every connection to come back", func() bool {
		return metric(t, `agentflow_db_pool_connections{service="catalog",state="in_use"}`) == 0
	})
}
