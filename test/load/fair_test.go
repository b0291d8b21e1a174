package load

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// gate is an outside server that answers nobody until it opens.
type gate struct {
	*httptest.Server
	opened chan struct{}
	mu     sync.Mutex
	calls  map[string]bool // by idempotency key
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{opened: make(chan struct{}), calls: map[string]bool{}}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.calls[r.Header.Get("Idempotency-Key")] = true
		g.mu.Unlock()
		select {
		case <-g.opened:
			_, _ = fmt.Fprint(w, `{}`) // the client may have gone
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
	})
	return g
}

func (g *gate) called() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.calls)
}

// TestABacklogOfOneTenantDelaysNoOther queues executions of one tenant whose calls are not answered: as many run as may,
// and none ends. Those of another tenant, behind them all, run as if they were alone; also while the backlog is worked off.
func TestABacklogOfOneTenantDelaysNoOther(t *testing.T) {
	t.Cleanup(func() { shared.Explain(t) })
	outside := newGate(t)
	slow := object{
		"start_node": "in", "timeout_seconds": 1200,
		"nodes": []any{
			object{"id": "in", "type": "input"},
			object{"id": "call", "type": "api", "metadata": object{"source_id": "slow", "endpoint": "/", "timeout": 600, "timeout_seconds": 600}},
		},
		"edges":   []any{object{"from": "in", "to": "call"}},
		"sources": []any{object{"id": "slow", "kind": "api", "config": object{"base_url": outside.URL, "timeout": 600}}},
	}
	quick := object{
		"start_node": "in",
		"nodes":      []any{object{"id": "in", "type": "input"}, object{"id": "out", "type": "aggregator"}},
		"edges":      []any{object{"from": "in", "to": "out"}},
	}
	order := func(spec object) object { return object{"workflow": spec, "initial_state": object{"user_input": "x"}} }
	admin := shared.As(shared.Ready().AdminKey)
	tenant := fmt.Sprintf("small-%d", time.Now().UnixNano()) // the test may run twice on one platform
	require.Equal(t, http.StatusCreated, admin.Call(t, http.MethodPost, "/tenants", object{"id": tenant}).Status)
	a := admin.Call(t, http.MethodPost, "/keys", object{"tenant_id": tenant, "name": "key"})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	secret, _ := a.JSON(t)["key"].(string)
	small := shared.As(secret)
	platform.Await(t, "the key", func() bool { return small.Call(t, http.MethodGet, "/executions", nil).Status == http.StatusOK })
	// run is one execution of the other tenant, and how long it took.
	run := func() time.Duration {
		began := time.Now()
		a := small.Call(t, http.MethodPost, "/workflows/execute", order(quick))
		require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		return time.Since(began)
	}

	var sent atomic.Int64
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for sent.Add(1) <= backlog {
				a, err := shared.Try(t, http.MethodPost, "/workflows/execute", order(slow), "Prefer", "respond-async")
				if err != nil || a.Status != http.StatusAccepted {
					t.Errorf("%v %d %.500s", err, a.Status, a.Body)
					return
				}
			}
		})
	}
	wg.Wait()
	require.False(t, t.Failed())
	var behind, beside []time.Duration
	for range 20 {
		behind = append(behind, run())
	}
	running := outside.called()
	require.Less(t, running, backlog, "all of the backlog runs: it stands in nobody's way")
	close(outside.opened)
	for n := running; n < backlog; n = outside.called() {
		beside = append(beside, run())
		platform.Await(t, "more of the backlog to run", func() bool { return outside.called() > n })
	}
	platform.Await(t, "the backlog to end", func() bool { return sum(t, "agentflow_executions_running") == 0 })
	for what, took := range map[string][]time.Duration{"behind": behind, "beside": beside} {
		slices.Sort(took)
		t.Logf("%d executions %s a backlog of %d, of which %d ran: p50 %v, slowest %v", len(took), what, backlog, running,
			took[len(took)/2].Round(100*time.Microsecond), took[len(took)-1].Round(100*time.Microsecond))
	}
}
