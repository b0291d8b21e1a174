package bucket

import "slices"

// Metric is one thing that is counted. It indexes what is kept of each.
type Metric int

// The metrics, in the order in which they are asked, and what else may refuse an ask.
const (
	Messages Metric = iota // per second
	Requests               // per minute
	Tokens                 // per minute
	Metrics                // how many there are
	Closed                 // the key is shut
	None     Metric = -1
)

// Limits are the numbers of one queue, or of a share of it. 0 means no limit.
type Limits struct {
	Messages int64 // per second
	Burst    int64 // messages back to back; 0: as many as Messages, and no second passes more
	Requests int64 // per minute
	Tokens   int64 // per minute
}

// Share is the part of the limits that a weight gives: rounded down, but at least 1 of what is limited.
func (l Limits) Share(weight float64) Limits {
	part := func(n int64) int64 {
		if n == 0 {
			return 0
		}
		return max(1, int64(float64(n)*weight))
	}
	return Limits{Messages: part(l.Messages), Burst: part(l.Burst), Requests: part(l.Requests), Tokens: part(l.Tokens)}
}

func (l Limits) of(m Metric) int64 { return [Metrics]int64{l.Messages, l.Requests, l.Tokens}[m] }

// Capacity is how many messages can ever pass at once.
func (l Limits) Capacity() int64 {
	if l.Burst > 0 {
		return l.Burst
	}
	return l.Messages
}

// Want is what one ask is for. Messages and requests must not exceed what can ever pass; an estimate of
// tokens above the limit is taken for the whole limit.
type Want struct {
	Messages int64
	Requests int64
	Tokens   int64
}

func (w Want) of(m Metric) int64 { return [Metrics]int64{w.Messages, w.Requests, w.Tokens}[m] }

// Ask is a list of wants, decided in order.
type Ask struct {
	Wants []Want
	Waits bool // who asks will come back for what is refused, when told to
}

// Answer is what became of an ask.
type Answer struct {
	Now     int64  // the moment of the decision, in microseconds since 1970
	Granted int    // how many, from the first on
	Wait    int64  // microseconds until the first that was refused may pass
	Turn    int64  // microseconds until one who waits should come back: no less than Wait
	Metric  Metric // what refused it; None
	Room    [Metrics]Room
}

// Room is what is left of one metric.
type Room struct {
	Remaining int64 // -1: no limit
	Reset     int64 // microseconds until nothing is in use
}

// Queue is everything remembered of one queue, or of a share of it. The zero Queue is unused.
type Queue struct {
	last    int64 // the moment of the last call
	turn    int64 // the moment of the next turn to give away
	bucket  Bucket
	windows [Metrics]*Window
	refused [Metrics]int64 // in the clock's running minute
}

// Scope is a queue and the limits it is held to. An ask on a share of a queue has two.
type Scope struct {
	Queue  *Queue
	Limits Limits
}

// Acquire decides on wants in order: each passes in every scope or in none, and behind the first
// that is refused nothing passes.
func Acquire(now int64, ask Ask, scopes ...Scope) Answer {
	for _, s := range scopes {
		s.Queue.advance(now, s.Limits)
	}
	a := Answer{Now: now, Metric: None}
	for _, w := range ask.Wants {
		var by int
		if a.Wait, a.Metric, by = wait(now, w, scopes); a.Wait > 0 {
			for _, s := range scopes {
				s.Queue.refuse(a.Metric)
			}
			a.Turn = a.Wait
			if ask.Waits {
				a.Turn = scopes[by].turn(now, a.Wait, scopes[by].gap(a.Metric, w.of(a.Metric)))
			}
			break
		}
		for _, s := range scopes {
			s.Queue.take(w, s.Limits)
		}
		a.Granted++
	}
	a.Room = room(now, scopes)
	return a
}

// Turns keep those who wait from all coming at the same moment for one permit: each is told a
// moment of its own, a gap behind the one before. They are advice. Nothing is kept for anybody,
// and whoever comes finds what is there.
const (
	few      = 8      // permits that a window must have for its waiters to come together
	calm     = 20_000 // the least gap in microseconds, if the bucket holds what gathers meanwhile
	maxTurns = 8      // given away ahead; later ones share the last
)

// gap is how long it takes until n more of a metric are there, where they come one by one. It is
// 0 where many come back at once.
func (s Scope) gap(m Metric, n int64) int64 {
	limit := s.Limits.of(m)
	switch {
	case m == Messages && s.Limits.Burst > 0:
		return max(ceil(n*micro, limit), min(calm, ceil(s.Limits.Burst*micro, limit)/few))
	case limit >= few*n:
		return 0
	default:
		w := s.Queue.windows[m]
		return min(n, limit) * int64(len(w.slots)) * w.width / limit
	}
}

// turn is how long until the next turn, and the one after is a gap later.
func (s Scope) turn(now, wait, gap int64) int64 {
	first := now + wait
	turn := min(max(first, s.Queue.turn), first+maxTurns*gap)
	s.Queue.turn = turn + gap
	return turn - now
}

// Settle replaces an estimate that was taken at a moment by what was used. What was taken too
// much goes back to where it was counted; what was used in addition counts from now.
func Settle(now, at, taken, used int64, q *Queue, l Limits) {
	q.advance(now, l)
	w := q.windows[Tokens]
	if w == nil || l.Tokens == 0 {
		return
	}
	if taken = min(taken, l.Tokens); used < taken {
		w.give(now, at, taken-used)
	} else {
		w.add(used - taken)
	}
}

// Use is what a metric's counters say.
type Use struct {
	Used    int64 // in the window that ends now
	Refused int64 // asks, since the clock's running minute began
}

// Usage reads the counters of a queue at a moment.
func (q *Queue) Usage(now int64) (out [Metrics]Use) {
	q.advance(now, Limits{})
	for m, w := range q.windows {
		if w != nil {
			out[m] = Use{Used: w.sum, Refused: q.refused[m]}
		}
	}
	return out
}

// Clone copies a queue, to look at without touching it.
func (q *Queue) Clone() *Queue {
	out := *q
	for m, w := range q.windows {
		if w != nil {
			c := *w
			c.slots = slices.Clone(w.slots)
			out.windows[m] = &c
		}
	}
	return &out
}

// Age makes a queue believe that its last call was so many microseconds longer ago. For tests,
// which cannot wait for minutes.
func (q *Queue) Age(by int64) {
	if q.last != 0 {
		q.last -= by
	}
}

// advance moves the queue to now, and begins to count what is limited from now on.
func (q *Queue) advance(now int64, l Limits) {
	if now/Minute != q.last/Minute {
		q.refused = [Metrics]int64{}
	}
	for _, w := range q.windows {
		if w != nil {
			w.advance(q.last, now)
		}
	}
	if l.Messages > 0 {
		q.bucket.refill(now-q.last, l.Messages, l.Capacity())
	}
	for m := range Metrics {
		if l.of(m) > 0 && q.windows[m] == nil {
			q.windows[m] = window(m)
		}
	}
	q.last = now
}

func window(m Metric) *Window {
	switch m {
	case Messages:
		return newWindow(Second, SecondSlots, maxCount)
	case Tokens:
		return newWindow(Minute, MinuteSlots, maxTokens)
	default:
		return newWindow(Minute, MinuteSlots, maxCount)
	}
}

// wait is how long until the want may pass in every scope, and what makes it wait the longest in
// which scope.
func wait(now int64, want Want, scopes []Scope) (longest int64, by Metric, scope int) {
	by = None
	for i, s := range scopes {
		for m := range Metrics {
			if w := s.wait(now, m, want); w > longest {
				longest, by, scope = w, m, i
			}
		}
	}
	return longest, by, scope
}

func (s Scope) wait(now int64, m Metric, want Want) int64 {
	n, limit := want.of(m), s.Limits.of(m)
	if n == 0 || limit == 0 {
		return 0
	}
	w := s.Queue.windows[m]
	switch m {
	case Messages:
		wait := s.Queue.bucket.wait(n, limit)
		if s.Limits.Burst == 0 {
			wait = max(wait, w.wait(now, n, limit))
		}
		return wait
	case Tokens:
		return w.wait(now, min(n, limit), limit)
	default:
		return w.wait(now, n, limit)
	}
}

func (q *Queue) take(want Want, l Limits) {
	if l.Messages > 0 {
		q.bucket.take(want.Messages)
		q.windows[Messages].add(want.Messages)
	}
	if l.Requests > 0 {
		q.windows[Requests].add(want.Requests)
	}
	if l.Tokens > 0 {
		q.windows[Tokens].add(min(want.Tokens, l.Tokens))
	}
}

func (q *Queue) refuse(by Metric) {
	if q.windows[by] != nil {
		q.refused[by] = min(q.refused[by]+1, maxCount)
	}
}

// room is what is left: the tightest scope's remainder, and the slowest scope's reset.
func room(now int64, scopes []Scope) (out [Metrics]Room) {
	for m := range Metrics {
		out[m].Remaining = -1
		for _, s := range scopes {
			if s.Limits.of(m) == 0 {
				continue
			}
			r := s.room(now, m)
			if out[m].Remaining < 0 || r.Remaining < out[m].Remaining {
				out[m].Remaining = r.Remaining
			}
			out[m].Reset = max(out[m].Reset, r.Reset)
		}
	}
	return out
}

func (s Scope) room(now int64, m Metric) Room {
	l, w := s.Limits, s.Queue.windows[m]
	in := Room{Remaining: max(0, l.of(m)-w.sum), Reset: w.reset(now)}
	if m != Messages {
		return in
	}
	b := s.Queue.bucket
	held := Room{Remaining: b.tokens(), Reset: b.reset(l.Messages, l.Capacity())}
	if l.Burst > 0 {
		return held
	}
	return Room{Remaining: min(held.Remaining, in.Remaining), Reset: max(held.Reset, in.Reset)}
}
