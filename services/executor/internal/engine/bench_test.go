package engine_test

import (
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
)

// BenchmarkFanOut200 is an execution of 200 calls side by side, of 10 ms each, from its request to its end.
func BenchmarkFanOut200(b *testing.B) {
	p := newPlatform(b)
	p.executor(engine.Config{Concurrency: 64, AckWait: 10 * time.Second})
	c := newCalls(b, func(_ int, w http.ResponseWriter, r *http.Request) {
		late := time.NewTimer(10 * time.Millisecond)
		defer late.Stop()
		select {
		case <-late.C:
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte(`{"ok":true}`))
	})
	nodes := []string{`{"id":"in","type":"input"}`, `{"id":"out","type":"aggregator","metadata":{"source_keys":["n0"],"include_metadata":false}}`}
	var edges, names []string
	for i := range 200 {
		name := fmt.Sprintf("n%d", i)
		nodes = append(nodes, `{"id":"`+name+`","type":"api","metadata":{"source_id":"s","endpoint":"/x","output_key":"`+name+`"}}`)
		names = append(names, `"`+name+`"`)
		edges = append(edges, `{"from":"`+name+`","to":"out"}`)
	}
	spec := `{"start_node":"in","nodes":[` + strings.Join(nodes, ",") + `],"edges":[{"from":"in","to":[` + strings.Join(names, ",") + `]},` + strings.Join(edges, ",") + `],
	 "sources":[{"id":"s","kind":"api","config":{"base_url":"` + c.URL + `"}}]}`
	run := func() {
		events := p.history(p.request(spec, `{}`, nil))
		require.IsType(b, protocol.Completed{}, events[len(events)-1])
	}
	run() // the plan is compiled, and the connections are open
	for b.Loop() {
		run()
	}
}

// BenchmarkWaiting10000 lets 10,000 executions wait for a retry that is due in an hour, and measures what
// they hold: engine, NATS server and test together.
func BenchmarkWaiting10000(b *testing.B) {
	const waiting = 10_000
	p := newPlatform(b)
	p.fuse.Failures = 1 << 30 // every one of them gets its own answer
	p.executor(engine.Config{Concurrency: 256, AckWait: 10 * time.Second, NodeTimeout: 3 * time.Hour})
	c := newCalls(b, func(_ int, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	spec := `{"start_node":"x","nodes":[{"id":"x","type":"api","metadata":{"source_id":"s","endpoint":"/x","retry":{"max_attempts":3}}}],
	 "sources":[{"id":"s","kind":"api","config":{"base_url":"` + c.URL + `"}}]}`
	calls := func() int {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.keys)
	}
	for b.Loop() {
		before, had := held(), calls()
		var clients sync.WaitGroup
		for range 16 {
			clients.Go(func() {
				for range waiting / 16 {
					p.request(spec, `{}`, func(r *protocol.Requested) { r.Deadline = protocol.At(time.Now().Add(3 * time.Hour)) })
				}
			})
		}
		clients.Wait()
		require.Eventually(b, func() bool {
			return calls()-had == waiting && p.metric("agentflow_executions_running") == 0
		}, 5*time.Minute, 50*time.Millisecond)
		c.mu.Lock()
		clear(c.keys) // the test's own
		c.mu.Unlock()
		b.ReportMetric((held()-before)/(1<<20), "MiB/10000")
	}
}

// held is what the heap and the stacks hold, in bytes.
func held() float64 {
	runtime.GC()
	runtime.GC() // what finalizers let go of
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}
