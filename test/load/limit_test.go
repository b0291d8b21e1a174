package load

import (
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAQueueUnderPressure posts many more executions than a queue lets through in a second. All of them end
// well, one after another, and no second passes more than the limit and the burst.
func TestAQueueUnderPressure(t *testing.T) {
	t.Cleanup(func() { shared.Explain(t) })
	const perSecond, burst, orders = 40, 10, 120
	spec := object{
		"name": "pressed", "start_node": "in",
		"nodes": []any{
			object{"id": "in", "type": "input"},
			object{"id": "out", "type": "aggregator", "metadata": object{"strategy": "template", "template": "{user_input}", "include_metadata": false}},
		},
		"edges":  []any{object{"from": "in", "to": "out"}},
		"queues": []any{object{"id": "narrow", "from": "in", "to": "out", "bandwidth": object{"max_messages_per_second": perSecond, "burst_size": burst}}},
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var passed []time.Time
	began := time.Now()
	for i := range orders {
		wg.Go(func() {
			a, err := shared.Try(t, http.MethodPost, "/workflows/execute", object{
				"workflow": spec, "initial_state": object{"user_input": fmt.Sprintf("order %d", i)},
			})
			if err != nil || a.Status != http.StatusOK {
				t.Errorf("order %d: %v %d %.500s", i, err, a.Status, a.Body)
				return
			}
			id, _ := a.JSON(t)["execution_id"].(string)
			for _, e := range shared.Events(t, id) {
				if e.Type != "node_completed.v1" || e.Data["node"] != "out" {
					continue
				}
				at, err := time.Parse(time.RFC3339, fmt.Sprint(e.Data["started_at"]))
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				passed = append(passed, at)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	require.Len(t, passed, orders)
	slices.SortFunc(passed, time.Time.Compare)
	// A node starts some time after its grant: what is certain is that all grants were given between these two moments.
	over := passed[orders-1].Sub(began)
	require.LessOrEqual(t, orders-1, int(perSecond*over.Seconds())+burst, "%d passed within %v", orders, over)
	t.Logf("%d executions through a queue of %d/s (burst %d) in %v", orders, perSecond, burst, over.Round(time.Millisecond))
}
