package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestBarePath(t *testing.T) {
	t.Parallel()
	r := &Report{Runs: []Measurement{
		{Workload: "three-step", Clients: 4, PerSecond: 100, Execution: true},
		{Workload: "chat", Clients: 4, PerSecond: 50, Execution: true},
		{Workload: "crud", Clients: 9, PerSecond: 50},
	}}
	b := &bencher{Options: Options{Dir: t.TempDir(), Durability: "always", Requests: 50, Duration: time.Second}, report: r}
	require.NoError(t, b.compare(t.Context()))
	require.Len(t, r.Bare, 1, "one for each number of clients")
	bare := r.Bare[0]
	require.EqualValues(t, 50, bare.Latency.Requests)
	require.Empty(t, bare.Errors)
	require.Positive(t, bare.Cost.CPU[bareName])
	require.InDelta(t, 100/bare.PerSecond, r.Runs[0].OfBare, 1e-9)
	require.InDelta(t, 50/bare.PerSecond, r.Runs[1].OfBare, 1e-9)
	require.Zero(t, r.Runs[2].OfBare)
}
