package chaos

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
)

type object = map[string]any

// randomWorkflow makes a workflow of calls in a row, side by side and in loops, to an outside of mixed quality.
func randomWorkflow(r *rand.Rand, outside string) json.RawMessage {
	nodes := []object{{"id": "in", "type": "input"}}
	var edges []object
	layer := []string{"in"}
	for depth := range 1 + r.IntN(4) {
		var next []string
		for wide := range 1 + r.IntN(3) {
			id := fmt.Sprintf("n%d_%d", depth, wide)
			nodes = append(nodes, randomNode(r, id))
			next = append(next, id)
			for _, from := range layer {
				edges = append(edges, object{"from": from, "to": id})
			}
			if wide == 0 && r.IntN(6) == 0 {
				edges = append(edges, object{"from": id, "to": id, "condition": fmt.Sprintf("execution_path.filter(n, n == '%s').size() < 3", id)})
			}
		}
		layer = next
	}
	nodes = append(nodes, object{"id": "out", "type": "aggregator", "metadata": object{"source_keys": []string{"outputs"}}})
	for _, from := range layer {
		edges = append(edges, object{"from": from, "to": "out"})
	}
	spec := object{
		"start_node": "in", "nodes": nodes, "edges": edges, "max_iterations": 5, "timeout_seconds": 45,
		"sources": []object{{"id": "s", "kind": "api", "config": object{"base_url": outside}}},
	}
	if r.IntN(4) == 0 {
		spec["queues"] = []object{{"id": "q", "from": "in", "to": "n0_0", "bandwidth": object{"max_messages_per_second": 20}}}
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		panic(err) // made of strings and numbers
	}
	return raw
}

func randomNode(r *rand.Rand, id string) object {
	if r.IntN(5) == 0 {
		return object{"id": id, "type": "aggregator", "metadata": object{"output_key": id, "source_keys": []string{"user_input"}}}
	}
	meta := object{"source_id": "s", "method": "POST", "body": object{"text": "{user_input}"}, "output_key": id}
	retry := object{"max_attempts": 4, "initial_interval": 0.05, "max_interval": 0.5}
	switch n := r.IntN(20); {
	case n < 9:
		meta["endpoint"] = "/ok/" + id
	case n < 14:
		meta["endpoint"], meta["retry"] = "/slow/"+id, retry
	case n < 18:
		meta["endpoint"], meta["retry"] = "/flaky/"+id, retry
	case n < 19:
		meta["endpoint"], meta["retry"] = "/bad/"+id, retry
		if r.IntN(2) == 0 {
			meta["on_error"] = "continue"
		}
	default:
		meta["endpoint"], meta["timeout_seconds"], meta["on_error"] = "/hang/"+id, 0.5, "continue"
	}
	return object{"id": id, "type": "api", "metadata": meta}
}
