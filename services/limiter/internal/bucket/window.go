package bucket

// The two windows, in microseconds, and into how many slots they are divided.
const (
	Second      = 1_000_000
	Minute      = 60 * Second
	SecondSlots = 50
	MinuteSlots = 24
)

// The most one slot can hold: what fits the bytes that the script gives it. The limits that are
// accepted keep clear of it; only settling can come near, and what does not fit is forgotten.
const (
	maxCount  = 1<<24 - 1
	maxTokens = 1<<32 - 1
)

// Window counts what passed in a sliding window, by slots of equal width.
type Window struct {
	width int64   // of a slot
	most  int64   // in a slot
	slots []int64 // by age: slots[0] is the running slot, the last is just about to be forgotten
	sum   int64
}

func newWindow(length int64, slots int, most int64) *Window {
	// One slot more than the window has: its oldest moment lies inside that one.
	return &Window{width: length / int64(slots), most: most, slots: make([]int64, slots+1)}
}

// advance moves the window from the moment of the last call to now.
//
// A clock that went back does not make anything older: the slots stay as they are, or become one
// slot younger where the running slot now has less time left than it had. So nothing passes
// early, and nobody waits longer than one slot more than they would have.
func (w *Window) advance(last, now int64) {
	steps := now/w.width - last/w.width
	if now < last {
		steps = 0
		if now%w.width > last%w.width {
			steps = -1
		}
	}
	n := int64(len(w.slots))
	switch {
	case steps < 0:
		youngest := w.slots[0]
		copy(w.slots, w.slots[1:])
		w.slots[n-1] = 0
		w.sum -= youngest
		w.add(youngest)
	case steps >= n:
		clear(w.slots)
		w.sum = 0
	default:
		for range steps {
			w.sum -= w.slots[n-1]
			copy(w.slots[1:], w.slots[:n-1])
			w.slots[0] = 0
		}
	}
}

// wait is how long until n more fit under limit: 0 when they do. n is at most limit.
func (w *Window) wait(now, n, limit int64) int64 {
	excess := w.sum + n - limit
	if excess <= 0 {
		return 0
	}
	for age := len(w.slots) - 1; age > 0; age-- {
		if excess -= w.slots[age]; excess <= 0 {
			return w.expiry(now, age)
		}
	}
	return w.expiry(now, 0)
}

// expiry is how long until the slot of that age is forgotten.
func (w *Window) expiry(now int64, age int) int64 {
	return int64(len(w.slots)-age)*w.width - now%w.width
}

// add counts n in the running slot.
func (w *Window) add(n int64) {
	n = min(n, w.most-w.slots[0])
	w.slots[0] += n
	w.sum += n
}

// give takes back up to n of what was counted at a moment, if that is still in the window.
func (w *Window) give(now, at, n int64) {
	age := max(0, now/w.width-at/w.width)
	if age >= int64(len(w.slots)) {
		return
	}
	n = min(n, w.slots[age])
	w.slots[age] -= n
	w.sum -= n
}

// reset is how long until the window is empty.
func (w *Window) reset(now int64) int64 {
	for age, n := range w.slots {
		if n > 0 {
			return w.expiry(now, age)
		}
	}
	return 0
}
