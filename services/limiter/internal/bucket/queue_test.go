package bucket

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// start is a moment in the middle of slots of both widths.
const start = int64(1_789_000_123_456_789)

// passed is one grant, at a moment of real time.
type passed struct{ at, n int64 }

func one(w Want) Ask { return Ask{Wants: []Want{w}} }

// most is the largest sum within any half-open stretch of one window's length.
func most(grants []passed, window int64) int64 {
	var sum, top int64
	from := 0
	for _, g := range grants {
		sum += g.n
		for grants[from].at <= g.at-window {
			sum -= grants[from].n
			from++
		}
		top = max(top, sum)
	}
	return top
}

// requireBounds holds what passed against the limits, over every stretch of a second and of a minute.
func requireBounds(t *rapid.T, grants [Metrics][]passed, l Limits) {
	if l.Messages > 0 {
		require.LessOrEqual(t, most(grants[Messages], Second), l.Messages+l.Burst)
	}
	if l.Requests > 0 {
		require.LessOrEqual(t, most(grants[Requests], Minute), l.Requests)
	}
	if l.Tokens > 0 {
		require.LessOrEqual(t, most(grants[Tokens], Minute), l.Tokens)
	}
}

func drawLimits(t *rapid.T) Limits {
	limit := func(name string) int64 {
		if rapid.Bool().Draw(t, name+" limited") {
			return rapid.Int64Range(1, 200).Draw(t, name)
		}
		return 0
	}
	l := Limits{Messages: limit("messages"), Requests: limit("requests"), Tokens: 50 * limit("tokens")}
	if l.Messages > 0 {
		l.Burst = limit("burst")
	}
	return l
}

func drawWant(t *rapid.T, l Limits) Want {
	upTo := func(name string, limit int64) int64 {
		if limit == 0 {
			limit = 5
		}
		return rapid.Int64Range(0, min(limit, 8)).Draw(t, name)
	}
	w := Want{Messages: upTo("want messages", l.Capacity()), Requests: upTo("want requests", l.Requests)}
	w.Tokens = rapid.Int64Range(0, l.Tokens+100).Draw(t, "want tokens")
	return w
}

// drawGap is often nothing, often a little, sometimes more than every window.
func drawGap(t *rapid.T) int64 {
	top := rapid.SampledFrom([]int64{0, 0, 30_000, 500_000, 4_000_000, 70_000_000}).Draw(t, "gap up to")
	return rapid.Int64Range(0, top).Draw(t, "gap")
}

// Whatever comes, and whenever: no second passes more than limit + burst, no minute more than the limit.
func TestNoWindowPassesMore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q Queue
		l, now := drawLimits(t), start
		var grants [Metrics][]passed
		for range rapid.IntRange(1, 250).Draw(t, "asks") {
			now += drawGap(t)
			want := drawWant(t, l)
			if Acquire(now, one(want), Scope{&q, l}).Granted == 0 {
				continue
			}
			for m := range Metrics {
				grants[m] = append(grants[m], passed{now, counted(want, l, m)})
			}
		}
		requireBounds(t, grants, l)
	})
}

// A refusal names the very microsecond at which the same ask passes.
func TestWaitIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q Queue
		l, now := drawLimits(t), start
		for range rapid.IntRange(1, 100).Draw(t, "asks") {
			now += drawGap(t)
			want := drawWant(t, l)
			a := Acquire(now, one(want), Scope{&q, l})
			if a.Granted == 1 {
				require.Zero(t, a.Wait)
				require.Equal(t, None, a.Metric)
				continue
			}
			require.Positive(t, a.Wait)
			early := Acquire(now+a.Wait-1, one(want), Scope{&q, l})
			require.Zero(t, early.Granted, "one microsecond early")
			require.Equal(t, int64(1), early.Wait)
			now += a.Wait
			require.Equal(t, 1, Acquire(now, one(want), Scope{&q, l}).Granted, "on time")
		}
	})
}

// Who asks again exactly when told gets at least 95 % of every limit.
func TestUtilisation(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits Limits
		want   Want
		metric Metric
		window int64
		length int64
	}{
		"messages":                {Limits{Messages: 100}, Want{Messages: 1}, Messages, Second, Minute},
		"one message a second":    {Limits{Messages: 1}, Want{Messages: 1}, Messages, Second, Minute},
		"messages with a burst":   {Limits{Messages: 100, Burst: 10}, Want{Messages: 1}, Messages, Second, Minute},
		"requests":                {Limits{Requests: 600}, Want{Requests: 1}, Requests, Minute, 60 * Minute},
		"tokens":                  {Limits{Tokens: 9000}, Want{Tokens: 900}, Tokens, Minute, 60 * Minute},
		"messages below requests": {Limits{Messages: 5, Requests: 600}, Want{Messages: 1, Requests: 1}, Messages, Second, 10 * Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var q Queue
			var sum int64
			for now := start; now < start+tc.length; {
				a := Acquire(now, one(tc.want), Scope{&q, tc.limits})
				sum += int64(a.Granted) * tc.want.of(tc.metric)
				now += a.Wait
			}
			full := tc.limits.of(tc.metric) * (tc.length / tc.window)
			require.Greater(t, float64(sum), 0.95*float64(full))
			require.LessOrEqual(t, sum, full+tc.limits.of(tc.metric)+tc.limits.Burst)
		})
	}
}

// A list of wants is decided like its wants one after another, up to the first refusal.
func TestListIsLikeOneByOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var listed, single Queue
		l, now := drawLimits(t), start
		for range rapid.IntRange(1, 30).Draw(t, "lists") {
			now += drawGap(t)
			wants := make([]Want, rapid.IntRange(1, 6).Draw(t, "wants"))
			for i := range wants {
				wants[i] = drawWant(t, l)
			}
			got := Acquire(now, Ask{Wants: wants}, Scope{&listed, l})
			want := Answer{Now: now, Metric: None}
			for _, w := range wants {
				a := Acquire(now, one(w), Scope{&single, l})
				want.Granted += a.Granted
				want.Wait, want.Turn, want.Metric, want.Room = a.Wait, a.Turn, a.Metric, a.Room
				if a.Granted == 0 {
					break
				}
			}
			require.Equal(t, want, got)
		}
	})
}

// A share never passes more than its part, and all shares together never more than the whole.
func TestShares(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		whole := Limits{Messages: rapid.Int64Range(2, 60).Draw(t, "messages"), Requests: rapid.Int64Range(2, 300).Draw(t, "requests")}
		weights := rapid.SliceOfN(rapid.Float64Range(0.05, 1), 1, 3).Draw(t, "weights")
		var parent Queue
		children := make([]Queue, len(weights))
		all, each := [Metrics][]passed{}, make([][Metrics][]passed, len(weights))
		now := start
		for range rapid.IntRange(1, 300).Draw(t, "asks") {
			now += drawGap(t)
			i := rapid.IntRange(0, len(weights)-1).Draw(t, "share")
			scopes := []Scope{{&parent, whole}, {&children[i], whole.Share(weights[i])}}
			if Acquire(now, one(Want{Messages: 1, Requests: 1}), scopes...).Granted == 1 {
				for m := range Tokens {
					all[m] = append(all[m], passed{now, 1})
					each[i][m] = append(each[i][m], passed{now, 1})
				}
			}
		}
		require.LessOrEqual(t, most(all[Messages], Second), whole.Messages)
		require.LessOrEqual(t, most(all[Requests], Minute), whole.Requests)
		for i, w := range weights {
			require.LessOrEqual(t, most(each[i][Messages], Second), whole.Share(w).Messages)
			require.LessOrEqual(t, most(each[i][Requests], Minute), whole.Share(w).Requests)
		}
	})
}

func TestShareOfLimits(t *testing.T) {
	t.Parallel()
	whole := Limits{Messages: 10, Burst: 4, Requests: 1, Tokens: 0}
	require.Equal(t, Limits{Messages: 2, Burst: 1, Requests: 1, Tokens: 0}, whole.Share(0.25))
	require.Equal(t, whole, whole.Share(1))
}

// A clock that goes back lets nothing more pass in real time, and keeps nobody waiting for longer
// than a window and a few slots.
func TestClockGoesBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q Queue
		l := drawLimits(t)
		now, clock := int64(0), start
		var grants [Metrics][]passed
		jumps := int64(0)
		for range rapid.IntRange(1, 200).Draw(t, "asks") {
			gap := drawGap(t)
			now, clock = now+gap, clock+gap
			if rapid.IntRange(0, 9).Draw(t, "jump") == 0 {
				clock -= rapid.Int64Range(1, 3600*Second).Draw(t, "back")
				jumps++
			}
			want := drawWant(t, l)
			a := Acquire(clock, one(want), Scope{&q, l})
			require.LessOrEqual(t, a.Wait, Minute+(2+jumps)*Minute/MinuteSlots+l.Capacity()*Second)
			if a.Granted == 0 {
				continue
			}
			for m := range Metrics {
				grants[m] = append(grants[m], passed{now, counted(want, l, m)})
			}
		}
		requireBounds(t, grants, l)
	})
}

// counted is what a grant takes of a metric: of tokens, no more than there ever are.
func counted(w Want, l Limits, m Metric) int64 {
	if m == Tokens && l.Tokens > 0 {
		return min(w.Tokens, l.Tokens)
	}
	return w.of(m)
}

// Estimates that are settled leave exactly what was used, however often and late.
func TestSettleLeavesWhatWasUsed(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var q Queue
		l := Limits{Tokens: rapid.Int64Range(1, 10_000).Draw(t, "tokens")}
		var used int64
		now := start
		for range rapid.IntRange(1, 20).Draw(t, "calls") {
			now += rapid.Int64Range(0, Minute/40).Draw(t, "gap")
			estimate := rapid.Int64Range(0, 12_000).Draw(t, "estimate")
			if Acquire(now, one(Want{Tokens: estimate}), Scope{&q, l}).Granted == 0 {
				continue
			}
			at := now
			now += rapid.Int64Range(0, Minute/40).Draw(t, "call takes")
			actual := rapid.Int64Range(0, 15_000).Draw(t, "used")
			Settle(now, at, estimate, actual, &q, l)
			used += actual
			require.Equal(t, used, q.Usage(now)[Tokens].Used)
		}
		require.Zero(t, q.Usage(now + 2*Minute)[Tokens].Used)
	})
}

func TestSettleAfterTheWindow(t *testing.T) {
	t.Parallel()
	var q Queue
	l := Limits{Tokens: 1000}
	require.Equal(t, 1, Acquire(start, one(Want{Tokens: 800}), Scope{&q, l}).Granted)
	late := start + 2*Minute
	Settle(late, start, 800, 100, &q, l)
	require.Zero(t, q.Usage(late)[Tokens].Used, "what is forgotten cannot come back")
	Settle(late, start, 800, 900, &q, l)
	require.EqualValues(t, 100, q.Usage(late)[Tokens].Used, "what came in addition counts from now")
}

func TestUsageAndRefusals(t *testing.T) {
	t.Parallel()
	var q Queue
	l := Limits{Messages: 2, Requests: 100}
	s := Scope{&q, l}
	for range 5 {
		Acquire(start, one(Want{Messages: 1, Requests: 1}), s)
	}
	u := q.Usage(start)
	require.Equal(t, Use{Used: 2, Refused: 3}, u[Messages])
	require.Equal(t, Use{Used: 2}, u[Requests])
	require.Equal(t, Use{}, u[Tokens], "never limited")
	u = q.Usage(start + 2*Minute)
	require.Equal(t, Use{}, u[Messages])
}

func TestRoom(t *testing.T) {
	t.Parallel()
	var q Queue
	a := Acquire(start, one(Want{Messages: 3, Requests: 2}), Scope{&q, Limits{Messages: 10, Burst: 5, Requests: 4}})
	require.Equal(t, 1, a.Granted)
	require.Equal(t, Room{Remaining: 2, Reset: 300_000}, a.Room[Messages], "three of five, at ten a second")
	require.EqualValues(t, 2, a.Room[Requests].Remaining)
	require.Equal(t, Room{Remaining: -1}, a.Room[Tokens])
	slot := int64(Minute / MinuteSlots)
	require.Equal(t, (MinuteSlots+1)*slot-start%slot, a.Room[Requests].Reset)
}

// Limits may change from call to call: the next decision follows the new ones.
func TestLimitsChange(t *testing.T) {
	t.Parallel()
	var q Queue
	require.Equal(t, 1, Acquire(start, one(Want{Messages: 10}), Scope{&q, Limits{Messages: 10}}).Granted)
	lower := Acquire(start, one(Want{Messages: 1}), Scope{&q, Limits{Messages: 2}})
	require.Zero(t, lower.Granted)
	require.Zero(t, lower.Room[Messages].Remaining)
	require.LessOrEqual(t, lower.Wait, int64(Second+2*Second/SecondSlots))
	require.Equal(t, 1, Acquire(start+2*Second, one(Want{Messages: 2}), Scope{&q, Limits{Messages: 2}}).Granted)
}

// Processes that wait for the same queue come one after another: nearly every ask is granted, and
// the limit is used as fully as by one.
func TestTurns(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		limits Limits
		want   Want
		metric Metric
		window int64
	}{
		"one a second":          {Limits{Messages: 1}, Want{Messages: 1}, Messages, Second},
		"five a second":         {Limits{Messages: 5}, Want{Messages: 1}, Messages, Second},
		"many a second":         {Limits{Messages: 100}, Want{Messages: 1}, Messages, Second},
		"a bucket":              {Limits{Messages: 100, Burst: 20}, Want{Messages: 1}, Messages, Second},
		"a bucket of one":       {Limits{Messages: 50, Burst: 1}, Want{Messages: 1}, Messages, Second},
		"a fast bucket":         {Limits{Messages: 5000, Burst: 1000}, Want{Messages: 1}, Messages, Second},
		"one a minute":          {Limits{Requests: 1}, Want{Requests: 1}, Requests, Minute},
		"many a minute":         {Limits{Requests: 600}, Want{Requests: 1}, Requests, Minute},
		"few big calls":         {Limits{Tokens: 10_000}, Want{Tokens: 4000}, Tokens, Minute},
		"calls above the limit": {Limits{Tokens: 10_000}, Want{Tokens: 40_000}, Tokens, Minute},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const processes, windows = 3, 60
			var q Queue
			l := tc.limits
			ask := Ask{Waits: true}
			for range 65 {
				ask.Wants = append(ask.Wants, tc.want)
			}
			come := [processes]int64{start, start, start}
			asks, granted := 0, 0
			for {
				i := 0
				for j, at := range come {
					if at < come[i] {
						i = j
					}
				}
				now := come[i]
				if now > start+windows*tc.window {
					break
				}
				a := Acquire(now, ask, Scope{&q, l})
				asks, granted = asks+1, granted+a.Granted
				require.GreaterOrEqual(t, a.Turn, a.Wait)
				come[i] = now + max(1, a.Turn) + 200 // the answer travels, and a timer is never early
			}
			could := int64(windows) * l.of(tc.metric) / min(tc.want.of(tc.metric), l.of(tc.metric))
			require.LessOrEqual(t, float64(asks)/float64(granted), 1.5)
			if tc.metric != Tokens { // which are not divided evenly by what a call wants
				require.GreaterOrEqual(t, float64(granted)/float64(could), 0.95)
			}
		})
	}
}

// Turns that nobody takes up put off nobody for long.
func TestTurnsDoNotRunAway(t *testing.T) {
	t.Parallel()
	var q Queue
	s := Scope{&q, Limits{Messages: 10, Burst: 1}}
	ask := one(Want{Messages: 1})
	ask.Waits = true
	require.Equal(t, 1, Acquire(start, ask, s).Granted)
	var a Answer
	for range 1000 {
		a = Acquire(start, ask, s)
	}
	require.EqualValues(t, 100_000, a.Wait)
	require.LessOrEqual(t, a.Turn, int64((maxTurns+1)*100_000))
	ask.Waits = false
	require.Equal(t, a.Wait, Acquire(start, ask, s).Turn, "who does not wait takes no turn")
}
