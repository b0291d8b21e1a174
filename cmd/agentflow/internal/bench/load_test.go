package bench

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// takes waits on the clock of the bubble.
func takes(d time.Duration) { <-time.After(d) }

// same gives all clients one sender.
func same(clients int, send sender) []sender {
	senders := make([]sender, clients)
	for i := range senders {
		senders[i] = send
	}
	return senders
}

func TestClosedLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		l := load{warmup: time.Second, duration: 10 * time.Second}
		l.run(t.Context(), rec, same(3, func(context.Context) outcome {
			takes(100 * time.Millisecond)
			return outcome{kind: "x"}
		}))
		got := rec.tally()
		require.InDelta(t, 30, got.rate, 0.5)
		require.EqualValues(t, 300, got.all.TotalCount(), "the warm-up is not measured")
		require.EqualValues(t, 330, rec.answered.Load())
		require.InDelta(t, 100_000, got.all.ValueAtQuantile(99), 100)
	})
}

func TestOpenLoopCountsFromWhenItWasDue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		begin := time.Now()
		l := load{rate: 100, duration: 10 * time.Second}
		// One client, and a platform that stands still from second 5 to 7.
		l.run(t.Context(), rec, same(1, func(context.Context) outcome {
			takes(time.Millisecond)
			if at := time.Since(begin); at > 5*time.Second && at < 7*time.Second {
				takes(7*time.Second - at)
			}
			return outcome{kind: "x"}
		}))
		got := rec.tally()
		require.EqualValues(t, 1000, got.all.TotalCount(), "all that were due are counted")
		require.InDelta(t, 2_000_000, got.all.Max(), 20_000)
		// About 220 of 1000 were due while it stood still, or while it caught up: a closed loop would show one.
		require.Greater(t, got.all.ValueAtQuantile(85), int64(500_000))
		require.Less(t, got.all.ValueAtQuantile(70), int64(10_000))
		require.Empty(t, got.faults)
	})
}

func TestOpenLoopKeepsItsRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		l := load{rate: 50, warmup: 2 * time.Second, duration: 4 * time.Second}
		l.run(t.Context(), rec, same(20, func(context.Context) outcome {
			takes(200 * time.Millisecond)
			return outcome{kind: "x"}
		}))
		got := rec.tally()
		require.EqualValues(t, 200, got.all.TotalCount())
		require.InDelta(t, 50, got.rate, 1)
		require.InDelta(t, 200_000, got.all.Max(), 200)
	})
}

func TestOpenLoopGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		begin := time.Now()
		l := load{rate: 100, duration: 5 * time.Second}
		l.run(t.Context(), rec, same(1, func(context.Context) outcome {
			takes(time.Second)
			return outcome{kind: "x"}
		}))
		require.Less(t, time.Since(begin), 5*time.Second+overtime+2*time.Second)
		got := rec.tally()
		require.EqualValues(t, 15, got.all.TotalCount())
		require.EqualValues(t, map[string]int64{faultNotSent: 485}, got.faults)
	})
}

func TestSoManyRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rec := &recorder{}
		var sent atomic.Int64
		l := load{requests: 70, duration: time.Second}
		l.run(t.Context(), rec, same(7, func(context.Context) outcome {
			sent.Add(1)
			takes(time.Second)
			return outcome{kind: "x"}
		}))
		got := rec.tally()
		require.EqualValues(t, 70, sent.Load())
		require.EqualValues(t, 70, got.all.TotalCount())
		require.Equal(t, 10*time.Second, got.took, "until the last answer, whatever the duration")
		require.InDelta(t, 7, got.rate, 0.001)
	})
}

func TestLoadEndsWithItsContext(t *testing.T) {
	for name, l := range map[string]load{
		"closed": {duration: time.Hour}, "open": {rate: 0.001, duration: time.Hour}, "many": {requests: 1 << 40},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				begin := time.Now()
				l.run(ctx, &recorder{}, same(4, func(context.Context) outcome {
					takes(time.Second)
					return outcome{kind: "x"}
				}))
				require.LessOrEqual(t, time.Since(begin), 61*time.Second)
			})
		})
	}
}
