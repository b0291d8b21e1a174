package service

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// clients is how many clients a benchmark has, on any machine.
const clients = 32

// serve answers commands and calls until the benchmark ends.
func (w *world) serve() {
	w.t.Helper()
	go func() { _ = w.Commands(w.t.Context(), 16) }() // ends with the benchmark
	svc, err := w.bus.Serve("catalog", "0.0.0", 64)
	require.NoError(w.t, err)
	require.NoError(w.t, w.Serve(svc))
	w.t.Cleanup(func() { _ = svc.Stop() })
}

// BenchmarkWorkflowCreate is the whole way: command, event, transaction, answer.
func BenchmarkWorkflowCreate(b *testing.B) {
	w := newWorld(b, options{poolSize: 20})
	w.project()
	acme := w.tenant("acme")
	w.serve()
	b.SetParallelism(clients)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			c := command(acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "bench", Spec: plain()})
			if _, err := bus.SendCommand[protocol.Workflow](b.Context(), w.bus, c); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "workflows/s")
}

func BenchmarkWorkflowGet(b *testing.B) {
	w := newWorld(b, options{poolSize: 20})
	acme := w.tenant("acme")
	wf := w.workflow(acme, "bench")
	w.serve()
	b.SetParallelism(clients)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := bus.Request(b.Context(), w.bus, protocol.GetWorkflow, protocol.GetWorkflowRequest{Tenant: acme, ID: wf.ID}); err != nil {
				b.Error(err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "gets/s")
}

// BenchmarkWorkflowList reads pages of 50 out of 100,000 workflows of one tenant.
func BenchmarkWorkflowList(b *testing.B) {
	w := newWorld(b, options{poolSize: 20})
	acme := w.tenant("acme")
	w.sql(`insert into workflows select 'wf_' || i, 'acme', 'workflow ' || i, 'd', 'draft', 1, '{}', now() - i * interval '1 second', 'me', now(), 'me', null, null,
		'workflow ' || i || ' d', '{}', 1, i from generate_series(1, 100000) i`)
	w.sql("insert into row_counts values ('acme', 'workflow', 'draft', 0, 100000)")
	w.sql("analyze")
	w.serve()
	b.SetParallelism(clients)
	b.ResetTimer()
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := bus.Request(b.Context(), w.bus, protocol.ListWorkflows, protocol.ListWorkflowsRequest{
				Tenant: acme, Page: protocol.Page{Limit: 50, Skip: int(n.Add(1)%20) * 50},
			})
			if err != nil || len(l.Items) != 50 || l.Total != 100_000 {
				b.Error(len(l.Items), l.Total, err)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "lists/s")
}

// BenchmarkProjection is how fast executions of two commits come into the tables.
func BenchmarkProjection(b *testing.B) {
	w := newWorld(b, options{poolSize: 20, partitions: 8})
	acme := w.tenant("acme")
	b.SetParallelism(clients)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			w.start(acme, protocol.Requested{WorkflowName: "bench"}).complete()
		}
	})
	b.ResetTimer()
	w.project()
	w.settled()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "executions/s")
	if n := w.count("select count(*) from executions"); n != int64(b.N) {
		b.Error(fmt.Sprint(n, " of ", b.N))
	}
}

// BenchmarkLag writes 2,000 executions a second for five seconds, and measures how far the tables are
// behind meanwhile, at most, and how long they take to catch up in the end.
func BenchmarkLag(b *testing.B) {
	const rate, length = 2000, 5 * time.Second
	w := newWorld(b, options{poolSize: 20, partitions: 8})
	acme := w.tenant("acme")
	w.project()
	behind := func() (n uint64) {
		for p := range w.bus.Partitions() {
			stream := protocol.PartitionStream(p)
			state, err := w.bus.State(b.Context(), stream)
			require.NoError(b, err)
			_, projected, err := w.store.Needed(b.Context(), p, stream, 1)
			require.NoError(b, err)
			n += state.Last - min(state.Last, projected)
		}
		return n
	}
	for b.Loop() {
		var writers sync.WaitGroup
		begun := time.Now()
		var n atomic.Int64
		for range clients {
			writers.Go(func() {
				for {
					due := begun.Add(time.Duration(n.Add(1)) * time.Second / rate)
					if due.Sub(begun) > length {
						return
					}
					<-time.After(time.Until(due))
					w.start(acme, protocol.Requested{WorkflowName: "bench"}).complete()
				}
			})
		}
		done := make(chan struct{})
		go func() { writers.Wait(); close(done) }()
		var most uint64
		for running := true; running; {
			select {
			case <-done:
				running = false
			case <-time.After(100 * time.Millisecond):
				most = max(most, behind())
			}
		}
		wrote := time.Since(begun).Seconds()
		began := time.Now()
		for behind() > 0 {
			<-time.After(5 * time.Millisecond)
		}
		perSecond := float64(2*n.Load()) / wrote // each execution is two commits
		b.ReportMetric(perSecond/2, "executions/s")
		b.ReportMetric(float64(most)/perSecond*1000, "ms-behind")
		b.ReportMetric(float64(time.Since(began).Milliseconds()), "ms-to-catch-up")
	}
}
