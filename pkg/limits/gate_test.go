package limits

import (
	"context"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// At ten times the limit: never more than the limit in any second, nearly all of it, and few calls.
func TestGateUnderOverload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(time.Millisecond)
		g := newGate(f)
		limits := workflow.Bandwidth{MaxMessagesPerSecond: 100}
		var granted, refused atomic.Int64
		var all sync.WaitGroup
		for range 10_000 { // 10 s at 1000/s
			time.Sleep(time.Millisecond) //nolint:forbidigo // inside synctest
			all.Go(func() {
				grant, err := g.Ask(t.Context(), ask(limits))
				require.NoError(t, err)
				if grant.Granted {
					granted.Add(1)
					require.Empty(t, grant.LimitingMetric)
					return
				}
				refused.Add(1)
				require.Equal(t, protocol.MetricMessages, grant.LimitingMetric)
				require.Positive(t, grant.RetryAfterMS)
				require.LessOrEqual(t, grant.RetryAfterMS, int64(1000))
			})
		}
		all.Wait()
		calls, permits := f.count()
		require.EqualValues(t, permits, granted.Load())
		require.GreaterOrEqual(t, permits, 950)
		require.LessOrEqual(t, permits, 1000)
		require.Equal(t, int64(10_000), granted.Load()+refused.Load())
		require.LessOrEqual(t, calls, permits*3/2)
	})
}

// Asks that come while one is under way share the next call, in order of arrival.
func TestGateBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(10 * time.Millisecond)
		g := newGate(f)
		limits := workflow.Bandwidth{MaxMessagesPerSecond: 30}
		granted := make([]bool, 50)
		var all sync.WaitGroup
		for i := range granted {
			all.Go(func() {
				grant, err := g.Ask(t.Context(), ask(limits))
				require.NoError(t, err)
				granted[i] = grant.Granted
			})
			synctest.Wait()
		}
		all.Wait()
		for i, ok := range granted {
			require.Equal(t, i < 30, ok, "ask %d", i)
		}
		calls, _ := f.count()
		require.Equal(t, 2, calls)
	})
}

func TestGateKeepsQueuesApart(t *testing.T) {
	t.Parallel()
	f := newFake(0)
	g := newGate(f)
	limits := workflow.Bandwidth{MaxMessagesPerSecond: 1}
	for _, tenant := range []protocol.TenantID{"acme", "globex"} {
		for i, want := range []bool{true, false} {
			r := ask(limits)
			r.Tenant = tenant
			grant, err := g.Ask(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, want, grant.Granted, "%s %d", tenant, i)
		}
	}
}

// A refusal is repeated without a call, but not for longer than a second, and not to one who
// wants less or has other limits.
func TestGateRemembersRefusals(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		g := newGate(f)
		limits := workflow.Bandwidth{MaxRequestsPerMinute: 1}
		for range 10 {
			_, err := g.Ask(t.Context(), ask(limits))
			require.NoError(t, err)
		}
		calls, _ := f.count()
		require.Equal(t, 2, calls)

		time.Sleep(500 * time.Millisecond) //nolint:forbidigo // inside synctest
		grant, err := g.Ask(t.Context(), ask(limits))
		require.NoError(t, err)
		require.EqualValues(t, 59_500, grant.RetryAfterMS)
		calls, _ = f.count()
		require.Equal(t, 2, calls)

		other, err := g.Ask(t.Context(), ask(workflow.Bandwidth{MaxRequestsPerMinute: 2}))
		require.NoError(t, err)
		require.True(t, other.Granted)
		time.Sleep(600 * time.Millisecond) //nolint:forbidigo // inside synctest
		_, err = g.Ask(t.Context(), ask(limits))
		require.NoError(t, err)
		calls, _ = f.count()
		require.Equal(t, 4, calls)
	})
}

func TestGateErrors(t *testing.T) {
	t.Parallel()
	f := newFake(0)
	f.fail = &protocol.Error{Code: protocol.CodeUnavailable, RetryAfterMS: 1000}
	g := newGate(f)
	_, err := g.Ask(t.Context(), ask(perSecond))
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeUnavailable})
	f.fail = nil
	grant, err := g.Ask(t.Context(), ask(perSecond))
	require.NoError(t, err)
	require.True(t, grant.Granted)
}

// One client that hangs up does not refuse those who wait with it.
func TestGateOneHangsUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(10 * time.Millisecond)
		g := newGate(f)
		ctx, cancel := context.WithCancel(t.Context())
		var all sync.WaitGroup
		for i := range 10 {
			all.Go(func() {
				c := t.Context()
				if i == 0 {
					c = ctx
				}
				grant, err := g.Ask(c, ask(perSecond))
				require.NoError(t, err)
				require.True(t, grant.Granted)
			})
			synctest.Wait()
		}
		cancel()
		all.Wait()
	})
}

func TestGateForgetsIdleDoors(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(newFake(0))
		for i := range 5000 {
			r := ask(workflow.Bandwidth{MaxRequestsPerMinute: 1})
			r.Queue = strconv.Itoa(i)
			for range 2 {
				_, err := g.Ask(t.Context(), r)
				require.NoError(t, err)
			}
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // inside synctest
		}
		require.Less(t, len(g.doors), 1100)
	})
}
