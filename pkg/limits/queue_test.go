package limits

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

var perSecond = workflow.Bandwidth{MaxMessagesPerSecond: 10}

// Under ten times more work than the limit lets pass: in order of arrival, at the full limit,
// with far fewer calls than 1.5 for each permit.
func TestQueueUnderOverload(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(2 * time.Millisecond)
		q := newQueue(f, f)
		const work = 1000 // 10 s of arrivals at 100/s, for 10/s
		start := time.Now()
		var mu sync.Mutex
		var order []int
		var all sync.WaitGroup
		for i := range work {
			time.Sleep(10 * time.Millisecond) //nolint:forbidigo // inside synctest
			all.Go(func() {
				_, err := q.Acquire(t.Context(), ask(perSecond), nil)
				mu.Lock()
				defer mu.Unlock()
				require.NoError(t, err)
				order = append(order, i)
			})
		}
		all.Wait()
		require.IsIncreasing(t, order)
		calls, permits := f.count()
		require.Equal(t, work, permits)
		require.LessOrEqual(t, float64(calls)/float64(permits), 1.5)
		ideal := time.Duration(work/perSecond.MaxMessagesPerSecond-1) * time.Second
		require.Less(t, time.Since(start), ideal*100/95)
		require.Zero(t, q.Waiting())
		require.Empty(t, q.lines, "an idle queue leaves nothing behind")
	})
}

// With one permit a second every permit is a call of its own, and still no call is in vain.
func TestQueueAsksOncePerPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(time.Millisecond)
		q := newQueue(f, f)
		var all sync.WaitGroup
		for range 30 {
			all.Go(func() {
				_, err := q.Acquire(t.Context(), ask(workflow.Bandwidth{MaxMessagesPerSecond: 1}), nil)
				require.NoError(t, err)
			})
		}
		all.Wait()
		calls, permits := f.count()
		require.Equal(t, 30, permits)
		require.LessOrEqual(t, calls, 32)
	})
}

func TestQueueTellsWhatItWaitsFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		q := newQueue(f, f)
		limits := workflow.Bandwidth{MaxMessagesPerSecond: 2, MaxRequestsPerMinute: 3}
		told := make([][]Wait, 6)
		var all sync.WaitGroup
		for i := range told {
			time.Sleep(time.Millisecond) //nolint:forbidigo // inside synctest
			all.Go(func() {
				_, err := q.Acquire(t.Context(), ask(limits), func(w Wait) { told[i] = append(told[i], w) })
				require.NoError(t, err)
			})
		}
		all.Wait()
		require.Empty(t, told[0])
		require.Empty(t, told[1])
		require.Equal(t, []Wait{{Metric: protocol.MetricMessages, Expected: 998 * time.Millisecond}}, told[2])
		require.Len(t, told[3], 2, "first behind the second's messages, then for the minute's requests")
		require.Equal(t, protocol.MetricMessages, told[3][0].Metric)
		require.Equal(t, 1, told[3][0].Ahead)
		require.Equal(t, protocol.MetricRequests, told[3][1].Metric)
		require.Zero(t, told[3][1].Ahead)
		require.InDelta(t, time.Minute, told[3][1].Expected, float64(2*time.Second))
		require.Equal(t, 3, told[5][0].Ahead)
		require.InDelta(t, 2*time.Second, told[5][0].Expected, float64(20*time.Millisecond))
	})
}

// Who would certainly wait beyond the deadline hears so at once, without a call.
func TestQueueFailsEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		q := newQueue(f, f)
		limits := workflow.Bandwidth{MaxRequestsPerMinute: 1}
		_, err := q.Acquire(t.Context(), ask(limits), nil)
		require.NoError(t, err)
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			start := time.Now()
			_, err = q.Acquire(ctx, ask(limits), nil)
			cancel()
			require.Zero(t, time.Since(start))
			var exceeded *Exceeded
			require.ErrorAs(t, err, &exceeded)
			require.Equal(t, Exceeded{Queue: "q", Metric: protocol.MetricRequests, RetryAfter: time.Minute}, *exceeded)
			require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeRateLimited})
			var refused *protocol.Error
			require.ErrorAs(t, err, &refused)
			require.EqualValues(t, 60_000, refused.RetryAfterMS)
		}
		calls, _ := f.count()
		require.Equal(t, 2, calls, "the second refusal is remembered")

		// One who wants nothing of what is used up is not held back by that.
		small := ask(limits)
		small.Requests = 0
		_, err = q.Acquire(t.Context(), small, nil)
		require.NoError(t, err)
	})
}

// LLM tokens may come back early, so their line waits for the deadline.
func TestQueueWaitsForTokensUntilTheDeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		q := newQueue(f, f)
		r := ask(workflow.Bandwidth{MaxTokensPerMinute: 1000})
		r.Tokens = 800
		_, err := q.Acquire(t.Context(), r, nil)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		start := time.Now()
		_, err = q.Acquire(ctx, r, nil)
		require.Equal(t, 25*time.Second, time.Since(start))
		var exceeded *Exceeded
		require.ErrorAs(t, err, &exceeded)
		require.Equal(t, protocol.MetricTokens, exceeded.Metric)
		require.Equal(t, 35*time.Second, exceeded.RetryAfter)
		calls, _ := f.count()
		require.Equal(t, 4, calls, "one that passed, then one at once, after 10 s, after 20 s")
	})
}

// Settling for less wakes the line when enough came back for the first in it, not before.
func TestSettlingWakesTheLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		q := newQueue(f, f)
		r := ask(workflow.Bandwidth{MaxTokensPerMinute: 1000})
		r.Tokens = 500
		for i := range 2 {
			r.Reservation = strconv.Itoa(i)
			_, err := q.Acquire(t.Context(), r, nil)
			require.NoError(t, err)
		}
		start := time.Now()
		passed := make(chan time.Duration)
		go func() {
			big := r
			big.Tokens, big.Reservation = 700, "big"
			_, err := q.Acquire(t.Context(), big, nil)
			require.NoError(t, err)
			passed <- time.Since(start)
		}()
		synctest.Wait()
		calls, _ := f.count()
		for i := range 2 {
			time.Sleep(time.Second) //nolint:forbidigo // inside synctest
			_, err := q.Settle(t.Context(), protocol.SettleRequest{Tenant: "acme", Queue: "q", Limits: r.Limits, Reservation: strconv.Itoa(i), Used: 100})
			require.NoError(t, err)
			synctest.Wait()
		}
		require.Equal(t, 2*time.Second, <-passed)
		after, _ := f.count()
		require.Equal(t, calls+1, after)
	})
}

func TestQueueCancel(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		q := newQueue(f, f)
		limits := workflow.Bandwidth{MaxMessagesPerSecond: 1}
		_, err := q.Acquire(t.Context(), ask(limits), nil)
		require.NoError(t, err)
		// The first in the line gives up while it leads; the second takes over and passes in time.
		ctx, cancel := context.WithCancel(t.Context())
		gaveUp := make(chan error)
		go func() {
			_, err := q.Acquire(ctx, ask(limits), nil)
			gaveUp <- err
		}()
		synctest.Wait()
		start := time.Now()
		passed := make(chan time.Duration)
		go func() {
			_, err := q.Acquire(t.Context(), ask(limits), nil)
			require.NoError(t, err)
			passed <- time.Since(start)
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-gaveUp, context.Canceled)
		require.Equal(t, time.Second, <-passed)
	})
}

// One who gives up while the ask is under way leaves its reservation to be given back.
func TestQueueGivesBackWhatNobodyTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(100 * time.Millisecond)
		q := newQueue(f, f)
		r := ask(workflow.Bandwidth{MaxTokensPerMinute: 1000})
		r.Tokens, r.Reservation = 600, "lost"
		ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
		defer cancel()
		first := ask(r.Limits)
		first.Messages = 1
		var all sync.WaitGroup
		all.Go(func() { // leads until 100 ms, and again with the other behind it
			_, err := q.Acquire(t.Context(), first, nil)
			require.NoError(t, err)
		})
		synctest.Wait()
		all.Go(func() {
			_, err := q.Acquire(ctx, r, nil) // leads from 100 ms on, and its time is up at 150 ms
			if err == nil {
				return // its own ask is answered before it looks at the time
			}
			require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeRateLimited})
		})
		behind := r
		behind.Reservation, behind.Tokens = "behind", 100
		all.Go(func() {
			synctest.Wait()
			_, err := q.Acquire(ctx, behind, nil) // travels with the one before, and is gone when it is granted
			require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeRateLimited})
		})
		all.Wait()
		require.Len(t, f.settled, 1)
		require.Equal(t, "behind", f.settled[0].Reservation)
		require.Zero(t, f.settled[0].Used)
	})
}

// An ask that can never pass fails alone, and those around it pass.
func TestQueueImpossibleAsk(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(time.Millisecond)
		q := newQueue(f, f)
		errs := make([]error, 5)
		var all sync.WaitGroup
		for i := range errs {
			all.Go(func() {
				r := ask(perSecond)
				if i == 2 {
					r.Messages = 11
				}
				_, errs[i] = q.Acquire(t.Context(), r, nil)
			})
			synctest.Wait()
		}
		all.Wait()
		for i, err := range errs {
			if i == 2 {
				require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeInvalid})
			} else {
				require.NoError(t, err)
			}
		}
	})
}

// While the policy is to refuse, the line tries again, and its end is the deadline's.
func TestQueueWhileUnavailable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		f.fail = &protocol.Error{Code: protocol.CodeUnavailable, RetryAfterMS: 1000}
		q := newQueue(f, f)
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		var told []Wait
		_, err := q.Acquire(ctx, ask(perSecond), func(w Wait) { told = append(told, w) })
		var exceeded *Exceeded
		require.ErrorAs(t, err, &exceeded)
		require.Equal(t, protocol.MetricUnavailable, exceeded.Metric)
		require.Equal(t, []Wait{{Metric: protocol.MetricUnavailable, Expected: time.Second}}, told)
		calls, _ := f.count()
		require.Equal(t, 4, calls)

		go func() {
			time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // inside synctest
			f.mu.Lock()
			defer f.mu.Unlock()
			f.fail = nil
		}()
		_, err = q.Acquire(t.Context(), ask(perSecond), nil)
		require.NoError(t, err)
	})
}

func TestQueueWhileClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		f.closed = time.Now().Add(30 * time.Second)
		q := newQueue(f, f)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		start := time.Now()
		_, err := q.Acquire(ctx, ask(perSecond), nil)
		var exceeded *Exceeded
		require.ErrorAs(t, err, &exceeded)
		require.Equal(t, Exceeded{Queue: "q", Metric: protocol.MetricClosed, RetryAfter: 30 * time.Second}, *exceeded)
		_, err = q.Acquire(t.Context(), ask(perSecond), nil)
		require.NoError(t, err)
		require.Equal(t, 30*time.Second, time.Since(start))
	})
}

func TestUnlimitedCostsNoCall(t *testing.T) {
	t.Parallel()
	f := newFake(0)
	_, err := newQueue(f, f).Acquire(t.Context(), ask(workflow.Bandwidth{}), nil)
	require.NoError(t, err)
	g, err := newGate(f).Ask(t.Context(), ask(workflow.Bandwidth{BurstSize: 3}))
	require.NoError(t, err)
	require.True(t, g.Granted)
	calls, _ := f.count()
	require.Zero(t, calls)
}

// Queues that nobody uses any more do not stay for ever, though their last refusal still stands.
func TestQueueForgetsIdleLines(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake(0)
		q := newQueue(f, f)
		limits := workflow.Bandwidth{MaxRequestsPerMinute: 1}
		for i := range 5000 {
			r := ask(limits)
			r.Queue = strconv.Itoa(i)
			_, err := q.Acquire(t.Context(), r, nil)
			require.NoError(t, err)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			_, err = q.Acquire(ctx, r, nil)
			cancel()
			require.Error(t, err)
			time.Sleep(time.Second) //nolint:forbidigo // inside synctest
		}
		require.Less(t, len(q.lines), 1100)
	})
}
