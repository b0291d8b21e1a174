package limiter_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

var wide = workflow.Bandwidth{MaxMessagesPerSecond: 100_000, MaxRequestsPerMinute: 5_000_000, MaxTokensPerMinute: 900_000_000}

// BenchmarkAcquireOverNATS is a whole acquire of all three metrics: client, NATS, limiter, Redis.
func BenchmarkAcquireOverNATS(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			p := start(b, "REDIS_URL="+localtest.Redis(b))
			caller := connect(b, p.nats, "caller")
			measure(b, clients, func(ctx context.Context, i int) error {
				g, err := bus.Request(ctx, caller, protocol.AcquireLimit, protocol.AcquireRequest{
					Tenant: "acme", Queue: fmt.Sprintf("queue-%d", i%100), Limits: wide, Messages: 1, Requests: 1, Tokens: 500,
				})
				if err == nil && (!g.Granted || g.Degraded) {
					return fmt.Errorf("not granted: %+v", g)
				}
				return err
			})
		})
	}
}

// BenchmarkGate is what a request costs at the gateway for its tenant's limit, when many of a
// tenant are under way.
func BenchmarkGate(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			p := start(b, "REDIS_URL="+localtest.Redis(b))
			client := limits.NewClient(connect(b, p.nats, "gateway"), limits.Config{
				Policy: limits.Policy{Fail: "closed", WarnInterval: time.Minute}, TimeoutMS: 5000,
			}, zap.NewNop(), prometheus.NewRegistry())
			b.Cleanup(func() { _ = client.Close(context.Background()) })
			gate := limits.NewGate(client)
			measure(b, clients, func(ctx context.Context, _ int) error {
				_, err := gate.Ask(ctx, protocol.AcquireRequest{Tenant: "acme", Queue: "requests", Limits: wide, Messages: 1, Requests: 1})
				return err
			})
		})
	}
}

// measure calls do b.N times from so many goroutines and reports rate and latency.
func measure(b *testing.B, clients int, do func(context.Context, int) error) {
	b.Helper()
	ctx := b.Context()
	took := make([][]time.Duration, clients)
	errs := make(chan error, clients)
	var all sync.WaitGroup
	b.ResetTimer()
	for c := range clients {
		all.Go(func() {
			for i := c; i < b.N; i += clients {
				began := time.Now()
				if err := do(ctx, i); err != nil {
					errs <- err
					return
				}
				took[c] = append(took[c], time.Since(began))
			}
		})
	}
	all.Wait()
	b.StopTimer()
	close(errs)
	require.NoError(b, <-errs)
	every := slices.Concat(took...)
	slices.Sort(every)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "ops/s")
	b.ReportMetric(float64(every[len(every)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(every[len(every)*99/100].Microseconds()), "p99-µs")
}
