// Package bucket says what a limit means: whether an ask may pass at a moment, and if not, when.
//
// It is a model, pure and exact: time is an argument in microseconds, every amount is a whole
// number, and nothing here knows Redis. The script in internal/redis does the same on packed
// strings; tests replay each of its answers through this package and compare.
//
// Two devices bound what passes.
//
// A [Bucket] is a token bucket: it holds up to its capacity and refills evenly. A bucket alone
// lets capacity + rate x window through in one window, which is what burst_size asks for.
//
// A [Window] remembers how much passed in each of its slots, and refuses what would make the sum
// over one window and one slot exceed the limit. Since every stretch of one window's length lies
// within that many slots, no stretch ever passes more than the limit. What was taken comes back
// between one window and one window and a slot later, so a limit that is always asked for more
// than it gives is used at slots / (slots+1): 98 % for a second of 50 slots, 96 % for a minute
// of 24.
//
// [Queue] puts them together: messages have a bucket, and without a burst_size a window of a
// second too; requests and LLM tokens have a window of a minute.
package bucket
