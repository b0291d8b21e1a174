package protocol_test

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

func benchCommit(size int) protocol.Commit {
	delta := workflow.Values{"text_result": strings.Repeat("lorem ipsum ", size/12), "tokens_used": json.Number("12"), "cost": json.Number("0.001")}
	return protocol.Commit{ID: "c", Events: []protocol.Stamped{
		{At: at(1), Event: protocol.Started{Executor: "executor-1", Delivery: 1}},
		{At: at(1), Event: protocol.NodeCompleted{Node: "a", Attempt: 1, Delta: protocol.ObjectOf(delta), Edges: []int{0}, Tokens: 12, Cost: "0.001", StartedAt: at(1)}},
		{At: at(1), Event: protocol.Completed{State: protocol.ObjectOf(workflow.NewValues(delta)), Totals: totals}},
	}}
}

func BenchmarkEncodeCommit(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 100 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			c := benchCommit(size)
			b.ReportAllocs()
			for b.Loop() {
				_, err := protocol.EncodeCommit(c)
				require.NoError(b, err)
			}
		})
	}
}

func BenchmarkDecodeCommit(b *testing.B) {
	for _, size := range []int{100, 4 << 10, 100 << 10} {
		b.Run(strconv.Itoa(size), func(b *testing.B) {
			body, err := protocol.EncodeCommit(benchCommit(size))
			require.NoError(b, err)
			b.ReportAllocs()
			for b.Loop() {
				_, err := protocol.DecodeCommit("c", body)
				require.NoError(b, err)
			}
		})
	}
}
