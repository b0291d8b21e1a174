//go:build soak

package load

import (
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// backlog is how many executions of one tenant wait.
const backlog = 10_000

// soakSeconds is how long the load takes, without the rests: AGENTFLOW_SOAK_SECONDS, ten minutes unless set.
func soakSeconds(t *testing.T) int {
	t.Helper()
	given := os.Getenv("AGENTFLOW_SOAK_SECONDS")
	if given == "" {
		return 600
	}
	n, err := strconv.Atoi(given)
	require.NoError(t, err)
	return n
}

// TestSoak alternates load and rest. What the platform holds at rest must not grow from the first rest to the
// last: goroutines, files, connections, the hot log, and memory but for what a cache may still take.
func TestSoak(t *testing.T) {
	t.Cleanup(func() { shared.Explain(t) })
	outside := fakeprovider.New(t, nil)
	spec := object{
		"start_node": "in",
		"nodes": []any{
			object{"id": "in", "type": "input"},
			object{"id": "model", "type": "llm", "metadata": object{"source_id": "model", "prompt_template": "{user_input}"}},
			object{"id": "out", "type": "aggregator", "metadata": object{"strategy": "template", "template": "{text_result}", "include_metadata": false}},
		},
		"edges": []any{object{"from": "in", "to": "model"}, object{"from": "model", "to": "out"}},
		"sources": []any{object{"id": "model", "kind": "llm", "config": object{
			"provider": "openai", "model": "gpt-4o-mini", "base_url": outside.OpenAI(), "api_key_env": "AGENTFLOW_SECRET_MODEL",
		}}},
	}
	const cycles, soakClients = 6, 32
	load := time.Duration(soakSeconds(t)) * time.Second / cycles
	var rests []holdings
	for cycle := range cycles {
		end := time.Now().Add(load)
		var wg sync.WaitGroup
		var mu sync.Mutex
		done := 0
		for c := range soakClients {
			wg.Go(func() {
				for i := 0; time.Now().Before(end) && !t.Failed(); i++ {
					text := fmt.Sprintf("cycle %d client %d round %d", cycle, c, i)
					a, err := shared.Try(t, http.MethodPost, "/workflows/execute", object{"workflow": spec, "initial_state": object{"user_input": text}})
					if err != nil || a.Status != http.StatusOK {
						t.Errorf("%s: %v %d %.500s", text, err, a.Status, a.Body)
						return
					}
					if i%10 == 0 {
						shared.Get(t, "/executions?limit=10")
					}
					mu.Lock()
					done++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		require.False(t, t.Failed())
		platform.Await(t, "the platform to come to rest", func() bool {
			return held(t).connections == 0 && sum(t, "agentflow_log_bytes") == 0
		})
		collect(t)
		rests = append(rests, held(t))
		t.Logf("after %d executions in %v: %v", done, load, rests[cycle])
	}
	first, last := rests[1], rests[cycles-1] // the first cycle fills pools and caches
	require.LessOrEqual(t, last.goroutines, first.goroutines*1.1+10)
	require.LessOrEqual(t, last.files, first.files+10)
	require.LessOrEqual(t, last.heap, first.heap*1.25+16<<20)
}
