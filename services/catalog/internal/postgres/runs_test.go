package postgres

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestRunsBackAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		created := protocol.At(time.UnixMilli(rapid.Int64Range(0, 1<<41).Draw(t, "created")))
		moment := func(name string) protocol.Time {
			if rapid.Bool().Draw(t, "no "+name) {
				return protocol.Time{}
			}
			return protocol.At(created.Add(time.Duration(rapid.IntRange(-1000, 1_000_000).Draw(t, name)) * time.Millisecond))
		}
		runs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) protocol.NodeRun {
			r := protocol.NodeRun{
				Node: rapid.String().Draw(t, "node"), Iteration: rapid.IntRange(0, 3).Draw(t, "iteration"),
				Status: rapid.SampledFrom([]string{
					protocol.NodeCompletedStatus, protocol.NodeFailedStatus, protocol.NodeRetryingStatus, protocol.NodeRateLimitedStatus,
				}).Draw(t, "status"),
				Attempt: rapid.IntRange(0, 3).Draw(t, "attempt"), StartedAt: moment("started"), CompletedAt: moment("completed"),
				DurationMS: rapid.Int64Range(0, 5).Draw(t, "duration"), TokensUsed: rapid.Int64Range(0, 9).Draw(t, "tokens"),
				Cost: json.Number(rapid.SampledFrom([]string{"0", "0.0030", "12"}).Draw(t, "cost")), Intent: rapid.SampledFrom([]string{"", "refund"}).Draw(t, "intent"),
				Handled: rapid.Bool().Draw(t, "handled"), RetryAt: moment("retry"),
				Queue: rapid.SampledFrom([]string{"", "q"}).Draw(t, "queue"), Metric: rapid.SampledFrom([]protocol.Metric{"", protocol.MetricTokens}).Draw(t, "metric"),
			}
			if rapid.Bool().Draw(t, "failed") {
				r.Error = &protocol.Failure{Code: protocol.CodeTimedOut, Message: "late", Node: r.Node}
			}
			return r
		}), 1, 4).Draw(t, "runs")
		stored := encodeRuns(created, runs)
		got, err := readRuns(created, []byte(*stored), nil)
		require.NoError(t, err)
		want, err := json.Marshal(runs)
		require.NoError(t, err)
		again, err := json.Marshal(got)
		require.NoError(t, err)
		require.JSONEq(t, string(JSON(want)), string(JSON(again)))
	})
}

// What is usual takes no room.
func TestRunsAreShort(t *testing.T) {
	t.Parallel()
	at := protocol.At(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	stored := encodeRuns(at, []protocol.NodeRun{
		{Node: "ask", Status: protocol.NodeCompletedStatus, Attempt: 1, StartedAt: at, CompletedAt: protocol.At(at.Add(time.Second)), DurationMS: 1000, Cost: "0"},
		{Node: "x", Status: protocol.NodeRetryingStatus, Attempt: 2, StartedAt: at, DurationMS: 7, Cost: "0", RetryAt: protocol.At(at.Add(time.Minute))},
	})
	require.JSONEq(t, `[{"n":"ask","b":0,"e":1000},{"n":"x","s":"RETRYING","a":1,"b":0,"d":7,"r":60000}]`, *stored)
	require.Nil(t, encodeRuns(at, nil))
	none, err := readRuns(at, nil, nil)
	require.NoError(t, err)
	require.Empty(t, none)
}
