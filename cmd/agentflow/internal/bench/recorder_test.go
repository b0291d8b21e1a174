package bench

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRecorder(t *testing.T) {
	t.Parallel()
	first := time.Unix(1000, 0)
	last := first.Add(10 * time.Second)
	r := &recorder{}
	r.window(first, last, false)
	// 1 to 1000 ms, spread over clients and two kinds.
	for ms := range 1000 {
		kind := "even"
		if ms%2 == 1 {
			kind = "odd"
		}
		due := first.Add(time.Duration(ms) * time.Millisecond)
		r.add(ms, outcome{kind: kind}, due, due.Add(time.Duration(ms+1)*time.Millisecond))
	}
	r.add(1, outcome{kind: "even"}, first.Add(-time.Second), first.Add(time.Second))             // warm-up, answered later
	r.add(2, outcome{kind: "even"}, last.Add(-time.Millisecond), last.Add(2*time.Second))        // answered after the end
	r.add(3, outcome{"odd", "503 UNAVAILABLE"}, first.Add(time.Second), first.Add(time.Second))  // failed
	r.add(4, outcome{"odd", "503 UNAVAILABLE"}, first.Add(-time.Second), first.Add(time.Second)) // failed in the warm-up

	got := r.tally()
	require.EqualValues(t, 1004, r.answered.Load())
	require.EqualValues(t, 2, r.failed.Load())
	require.EqualValues(t, 1001, got.all.TotalCount())
	require.EqualValues(t, 501, got.kinds["even"].TotalCount())
	require.EqualValues(t, 500, got.kinds["odd"].TotalCount())
	require.Equal(t, map[string]int64{"503 UNAVAILABLE": 1}, got.faults)
	require.InDelta(t, 100.1, got.rate, 0.001, "what came within the window: the warm-up's late answer, too, and not what came after the end")
	require.Equal(t, 10*time.Second, got.took)

	var m Measurement
	m.read(got)
	require.InEpsilon(t, 500, m.Latency.P50, 0.01)
	require.InEpsilon(t, 900, m.Latency.P90, 0.01)
	require.InEpsilon(t, 990, m.Latency.P99, 0.01)
	require.InEpsilon(t, 2001, m.Latency.Max, 0.01)
	require.Len(t, m.Kinds, 2)
	require.EqualValues(t, 1, m.Failed())
}

func TestRecorderOfNothing(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	r.window(time.Unix(1000, 0), time.Unix(1010, 0), true)
	r.add(0, outcome{"x", "connection refused"}, time.Unix(1001, 0), time.Unix(1002, 0))
	var m Measurement
	m.read(r.tally())
	require.Zero(t, m.PerSecond)
	require.Zero(t, m.Latency)
	require.EqualValues(t, 1, m.Failed())
}

func TestRecorderClamps(t *testing.T) {
	t.Parallel()
	r := &recorder{}
	at := time.Unix(1000, 0)
	r.window(at, at.Add(time.Hour), false)
	r.add(0, outcome{kind: "x"}, at, at.Add(-time.Second)) // a clock that was set back
	r.add(0, outcome{kind: "x"}, at, at.Add(30*time.Minute))
	got := r.tally().all
	require.EqualValues(t, 2, got.TotalCount())
	require.InEpsilon(t, longest, got.Max(), 0.01)
}
