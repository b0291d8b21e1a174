package bucket

// micro is how many parts a token is counted in: with a rate in tokens per second and time in
// microseconds, what a bucket gains is rate x time, without a remainder.
const micro = 1_000_000

// Bucket is a token bucket. The zero Bucket has never been used: it is full.
type Bucket struct {
	used  bool
	level int64 // micro-tokens
}

// refill adds what elapsed microseconds bring at rate tokens per second, up to capacity tokens.
func (b *Bucket) refill(elapsed, rate, capacity int64) {
	full := capacity * micro
	switch {
	case !b.used || b.level >= full || elapsed >= ceil(full-b.level, rate):
		b.used, b.level = true, full
	case elapsed > 0:
		b.level += elapsed * rate
	}
}

// wait is how long until n tokens are there: 0 when they are.
func (b *Bucket) wait(n, rate int64) int64 {
	if missing := n*micro - b.level; missing > 0 {
		return ceil(missing, rate)
	}
	return 0
}

func (b *Bucket) take(n int64) { b.level -= n * micro }

// tokens is how many whole tokens are there.
func (b *Bucket) tokens() int64 { return b.level / micro }

// reset is how long until the bucket is full.
func (b *Bucket) reset(rate, capacity int64) int64 { return ceil(capacity*micro-b.level, rate) }

func ceil(a, b int64) int64 { return (a + b - 1) / b }
