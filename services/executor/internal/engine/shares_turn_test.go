package engine

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// TestABacklogComesNoFasterThanTwiceWhatCanRun: whether its jobs come for the first time or again. In a consumer what comes
// again goes before what is new, so a backlog that came again faster would keep the jobs of others out.
func TestABacklogComesNoFasterThanTwiceWhatCanRun(t *testing.T) {
	t.Parallel()
	const tenant, slots, backlog = protocol.TenantID("large"), 8, 300
	s := newShares(slots)
	for range s.most {
		require.Zero(t, s.wait(tenant, false))
		s.begin(tenant)
	}
	for range backlog {
		require.Positive(t, s.wait(tenant, false))
	}
	atOnce := 0.0 // jobs a second
	for range backlog {
		atOnce += float64(time.Second) / float64(s.wait(tenant, true))
	}
	require.InEpsilon(t, 2*float64(s.most)/firstGuess.Seconds(), atOnce, 0.01)
	require.Zero(t, s.wait("small", false))

	// However long it is, and however long its executions take, it is looked at.
	for range 100 * backlog {
		require.LessOrEqual(t, s.wait(tenant, false), longestDefer)
	}
}
