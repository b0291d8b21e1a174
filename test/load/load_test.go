// Package load puts the real binary under a short load. It measures, and asserts nothing about time.
package load

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

const (
	executions = 1000
	clients    = 128
	modelKey   = "key-of-the-model-2718281828"
)

var shared *platform.Platform

func TestMain(m *testing.M) {
	var err error
	shared, err = platform.Launch(context.Background(), platform.Options{Env: []string{
		"LOG_LEVEL=warn", "AGENTFLOW_SECRET_MODEL=" + modelKey, "DB_POOL_SIZE=5", "DB_MAX_OVERFLOW=0", "HOT_LOG_GRACE_SECONDS=1", "HOT_LOG_TRIM_SECONDS=1",
	}})
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := shared.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		code = 1
	}
	os.Exit(code)
}

type object = map[string]any

// TestPure runs three pure nodes, again and again: what the platform itself costs.
func TestPure(t *testing.T) {
	spec := object{
		"start_node": "in",
		"nodes": []any{
			object{"id": "in", "type": "input", "metadata": object{"transform": "uppercase", "output_key": "loud"}},
			object{"id": "sort", "type": "router", "metadata": object{"strategy": "rules", "routes": []any{object{"intent": "odd", "condition": "ends_with('1')"}}}},
			object{"id": "out", "type": "aggregator", "metadata": object{"strategy": "template", "template": "{loud} {intent}", "include_metadata": false}},
		},
		"edges": []any{object{"from": "in", "to": "sort"}, object{"from": "sort", "to": "out"}},
	}
	run(t, spec, func(i int) string {
		intent := "unknown"
		if i%10 == 1 {
			intent = "odd"
		}
		return fmt.Sprintf("INPUT %d %s", i, intent)
	}, "final_output")
}

// TestOutside runs two models side by side and a third behind them, over a socket.
func TestOutside(t *testing.T) {
	outside := fakeprovider.New(t, nil)
	model := func(id, prompt, key string) object {
		return object{"id": id, "type": "llm", "metadata": object{"source_id": "model", "prompt_template": prompt, "output_key": key}}
	}
	spec := object{
		"start_node": "in",
		"nodes": []any{
			object{"id": "in", "type": "input"},
			model("left", "left {user_input}", "a"), model("right", "right {user_input}", "b"),
			object{"id": "last", "type": "llm", "metadata": object{"source_id": "model", "prompt_template": "{a}, {b}"}},
		},
		"edges": []any{
			object{"from": "in", "to": []any{"left", "right"}}, object{"from": "left", "to": "last"}, object{"from": "right", "to": "last"},
		},
		"sources": []any{object{"id": "model", "kind": "llm", "config": object{
			"provider": "openai", "model": "gpt-4o-mini", "base_url": outside.OpenAI(), "api_key_env": "AGENTFLOW_SECRET_MODEL",
		}}},
	}
	run(t, spec, func(i int) string { return fmt.Sprintf("re: re: left input %d, re: right input %d", i, i) }, "text_result")
	calls := outside.Calls()
	require.Len(t, calls, 3*executions)
	for key, n := range calls {
		require.Equal(t, 1, n, key)
	}
}

// run executes a workflow many times from many clients at once. Every answer must be the right one, and every execution
// another one.
func run(t *testing.T, spec object, want func(i int) string, key string) {
	t.Helper()
	t.Cleanup(func() { shared.Explain(t) })
	var next atomic.Int64
	var mu sync.Mutex
	var wrong []string
	took := make([]time.Duration, 0, executions)
	ids := map[string]bool{}
	began := time.Now()
	var wg sync.WaitGroup
	for range clients {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= executions {
					return
				}
				started := time.Now()
				id, problem := once(t, spec, i, want(i), key)
				elapsed := time.Since(started)
				mu.Lock()
				ids[id] = true
				took = append(took, elapsed)
				if problem != "" {
					wrong = append(wrong, problem)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	all := time.Since(began)
	require.Empty(t, wrong[:min(len(wrong), 3)], "%d of %d failed", len(wrong), executions)
	require.Len(t, ids, executions)
	slices.Sort(took)
	at := func(share float64) time.Duration {
		return took[int(share*float64(len(took)-1))].Round(100 * time.Microsecond)
	}
	t.Logf("%d executions by %d clients in %v: %.0f/s, p50 %v, p99 %v, slowest %v",
		executions, clients, all.Round(time.Millisecond), executions/all.Seconds(), at(0.5), at(0.99), at(1))
}

// once runs the workflow with input i, and says what is wrong with the answer.
func once(t *testing.T, spec object, i int, want, key string) (id, problem string) {
	t.Helper()
	a, err := shared.Try(t, http.MethodPost, "/workflows/execute", object{
		"workflow": spec, "initial_state": object{"user_input": fmt.Sprintf("input %d", i)},
	})
	if err != nil {
		return "", err.Error()
	}
	if a.Status != http.StatusOK {
		return "", fmt.Sprintf("%d: %.500s", a.Status, a.Body)
	}
	var got struct {
		State object `json:"final_state"`
		ID    string `json:"execution_id"`
	}
	if err := json.Unmarshal(a.Body, &got); err != nil {
		return "", err.Error()
	}
	if got.State[key] != want {
		return got.ID, fmt.Sprintf("input %d came out as %v, not as %q", i, got.State[key], want)
	}
	return got.ID, ""
}
