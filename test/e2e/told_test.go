package e2e

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// TestAnEndIsToldAlike ends executions in each way. The list reads the tables and the single answer the log: what both
// say of an execution must be the same, for the log keeps it for minutes only.
func TestAnEndIsToldAlike(t *testing.T) {
	t.Parallel()
	p := found(t, use(t), "teller")
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	t.Cleanup(silent.Close)
	call := func(address string, metadata object) object {
		metadata["source_id"], metadata["endpoint"] = "away", "/x"
		return object{
			"start_node": "a", "nodes": []object{{"id": "a", "type": "api", "metadata": metadata}}, "edges": []object{},
			"sources": []object{{"id": "away", "kind": "api", "config": object{"base_url": address}}},
		}
	}
	const nobody = "http://127.0.0.1:1"
	once, later := object{"max_attempts": 1}, object{"max_attempts": 3, "initial_interval": 60, "max_interval": 60}
	pure := object{"start_node": "a", "nodes": []object{{"id": "a", "type": "input"}}, "edges": []object{}}
	for status, order := range map[string]object{
		"COMPLETED": {"workflow": pure},
		"FAILED":    {"workflow": call(nobody, object{"retry": once})},
		"TIMED_OUT": {"workflow": call(silent.URL, object{"retry": once}), "timeout_seconds": 0.5},
		"CANCELLED": {"workflow": call(nobody, object{"retry": later})},
	} {
		order["tags"] = []string{"told-" + status, "b", "a", "b"}
		a := p.Call(t, http.MethodPost, "/workflows/execute", order, "Prefer", "respond-async")
		require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
		id := a.JSON(t)["execution_id"].(string)
		if status == "CANCELLED" {
			platform.Await(t, "the node to wait for its next try", func() bool {
				nodes, _ := p.Get(t, "/executions/"+id).JSON(t)["nodes"].([]any)
				return len(nodes) == 1 && nodes[0].(object)["status"] == "RETRYING"
			})
			a = p.Call(t, http.MethodPost, "/executions/"+id+"/cancel", object{"reason": "enough"})
			require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
		}
		var listed object
		platform.Await(t, "the list to say "+status, func() bool {
			items, _ := p.Get(t, "/executions?tag=told-"+status).JSON(t)["items"].([]any)
			if len(items) == 0 {
				return false
			}
			listed = items[0].(object)
			return listed["status"] == status
		})
		require.Equal(t, id, listed["id"])
		single := p.Get(t, "/executions/"+id).JSON(t)
		nodes, _ := single["nodes"].([]any)
		for _, node := range nodes {
			require.Nil(t, node.(object)["retry_at"], "%v", node)
			require.Contains(t, []any{"COMPLETED", "FAILED"}, node.(object)["status"])
		}
		for _, more := range []string{"initial_state", "final_state", "nodes"} {
			delete(single, more) // not in lists
		}
		require.Equal(t, listed, single)
	}
}
