package service

import (
	"fmt"
	"sync/atomic"
	"testing"

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
