package engine_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
)

// TestEveryPrefixOfALogLeadsToTheSameEnd stops an execution after each of its commits in turn,
// as a crash would, and lets another executor go on from there.
func TestEveryPrefixOfALogLeadsToTheSameEnd(t *testing.T) {
	p := newPlatform(t)
	c := newCalls(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		w.Header()["Date"] = nil // the only thing that may differ
		_, _ = fmt.Fprintf(w, `{"path":%q}`, r.URL.Path)
	})
	spec := `{"start_node":"in","nodes":[
	 {"id":"in","type":"input"},
	 {"id":"x","type":"api","metadata":{"source_id":"s","endpoint":"/x","output_key":"x"}},
	 {"id":"mid","type":"aggregator","metadata":{"strategy":"select","select_key":"x.data.path","include_metadata":false,"output_key":"chosen"}},
	 {"id":"y","type":"api","metadata":{"source_id":"s","endpoint":"/y","output_key":"y"}},
	 {"id":"again","type":"api","metadata":{"source_id":"s","endpoint":"/again","output_key":"z"}},
	 {"id":"join","type":"aggregator","metadata":{"source_keys":["x","y","z","chosen"],"include_metadata":false}}],
	 "edges":[{"from":"in","to":"x"},{"from":"x","to":"mid"},{"from":"mid","to":["y","again"]},
	  {"from":"again","to":"again","condition":"execution_path.filter(n, n == 'again').size() < 3"},{"from":"again","to":"join"},{"from":"y","to":"join"}],
	 "max_iterations":5,
	 "sources":[{"id":"s","kind":"api","config":{"base_url":"` + c.URL + `"}}]}`
	stop := p.executor(engine.Config{})
	whole := p.request(spec, `{"user_input":"q"}`, nil)
	want := final(t, p.history(whole))
	stop()
	records, err := p.bus.Load(t.Context(), whole, 0)
	require.NoError(t, err)
	require.Greater(t, len(records), 4, "the test needs commits to stop between")

	keys := make([]protocol.ExecutionKey, len(records))
	done := make([]map[string]bool, len(records)) // nodes that each prefix had committed
	for i := range records {
		keys[i] = p.bus.Key(tenant, protocol.ExecutionID(typeid.New("exec")))
		done[i] = map[string]bool{}
		var after uint64
		for _, rec := range records[:i+1] {
			for _, e := range rec.Events {
				if n, ok := e.Event.(protocol.NodeCompleted); ok {
					done[i][fmt.Sprintf("%s/%d", n.Node, n.Iteration)] = true
				}
			}
			after, err = p.bus.Append(t.Context(), keys[i], after, protocol.Commit{ID: typeid.New("cmt"), Events: rec.Events})
			require.NoError(t, err)
		}
	}
	p.executor(engine.Config{AckWait: 500 * time.Millisecond})
	for i, key := range keys {
		got := final(t, p.history(key))
		require.Equal(t, want["final_output"], got["final_output"], "after commit %d", i)
		require.ElementsMatch(t, want["execution_path"], got["execution_path"], "after commit %d", i)
		for call := range c.byExecution(string(key.ID)) {
			require.False(t, done[i][call], "after commit %d, %s was run again though it was committed", i, call)
		}
	}
}
