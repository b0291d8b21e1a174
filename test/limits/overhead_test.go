package limits

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// BenchmarkLimitCheck is what the gateway's limits add to an execution: the time of one for a tenant with limits that are
// never reached, in relation to that for a tenant without. The two take turns, so that both see the same machine.
func BenchmarkLimitCheck(b *testing.B) {
	const clients, turn = 32, time.Second
	p := platform.Start(b, platform.Options{Env: []string{"AUTH_REQUIRED=true", "LOG_LEVEL=error"}})
	admin := p.As(p.Ready().AdminKey)
	order := object{
		"workflow": object{
			"start_node": "in",
			"nodes":      []object{{"id": "in", "type": "input"}, {"id": "out", "type": "aggregator", "metadata": object{"strategy": "template", "template": "Hello, {user_input}!"}}},
			"edges":      []object{{"from": "in", "to": "out"}},
		},
		"initial_state": object{"user_input": "you"},
	}
	tenants := map[string]platform.Client{}
	for id, limits := range map[string]object{
		"free": nil, "limited": {"max_messages_per_second": 1_000_000, "max_requests_per_minute": 10_000_000},
	} {
		require.Equal(b, http.StatusCreated, admin.Call(b, http.MethodPost, "/tenants", object{"id": id, "limits": limits}).Status)
		a := admin.Call(b, http.MethodPost, "/keys", object{"tenant_id": id, "name": "key"})
		secret, _ := a.JSON(b)["key"].(string)
		c := p.As(secret)
		platform.Await(b, "the key", func() bool { return c.Call(b, http.MethodGet, cheap, nil).Status == http.StatusOK })
		require.Equal(b, limits != nil, c.Call(b, http.MethodGet, cheap, nil).Header.Get("RateLimit") != "", "%s", id)
		tenants[id] = c
	}
	execute := func(c platform.Client, during time.Duration) (done int64) {
		var n atomic.Int64
		var wg sync.WaitGroup
		until := time.Now().Add(during)
		for range clients {
			wg.Go(func() {
				for time.Now().Before(until) {
					if a, err := c.Try(b, http.MethodPost, "/workflows/execute", order); err != nil || a.Status != http.StatusOK {
						b.Errorf("%v %d %s", err, a.Status, a.Body)
						return
					}
					n.Add(1)
				}
			})
		}
		wg.Wait()
		return n.Load()
	}
	for _, c := range tenants {
		execute(c, turn) // warm
	}
	done := map[string]int64{}
	b.ResetTimer()
	for range b.N {
		for _, id := range []string{"free", "limited"} {
			done[id] += execute(tenants[id], turn)
		}
	}
	b.ReportMetric(float64(done["free"])/float64(done["limited"]), "limited/free")
	b.ReportMetric(float64(done["limited"])/float64(b.N)/turn.Seconds(), "limited-executions/s")
}
