package redis

import (
	_ "embed"
	"errors"
	"fmt"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

//go:embed limits.lua
var source string

// script runs by its hash, and sends its source only when Redis does not know it (any more).
var script = goredis.NewScript(source)

// Want is one ask of a list. A Reservation names the tokens for Settle, and makes the ask safe to
// repeat: the same name is granted once.
type Want struct {
	bucket.Want
	Reservation string
}

// Ask is a list of wants on one queue.
type Ask struct {
	Key    Key
	Limits bucket.Limits // of the whole queue
	Share  bucket.Limits // of the share, when the key names one
	Wants  []Want
	Waits  bool          // who asks will come back for what is refused
	TTL    time.Duration // of reservations
}

// Answer is what the script decided.
type Answer struct {
	bucket.Answer
	Expired int // dead reservations that were given back on the way
}

// Settlement is what became of a reservation.
type Settlement struct {
	Now   int64
	Found bool  // false: settled before, or given back because its time was up
	Taken int64 // what was reserved
	At    int64 // when
}

// Usage is what the counters of a queue say.
type Usage struct {
	Now    int64
	Closed time.Duration
	Use    [bucket.Metrics]bucket.Use
}

func (a Ask) args() []any {
	args := make([]any, 0, 12+4*len(a.Wants))
	args = append(args, "acquire")
	args = appendScopes(args, a.Key, a.Limits, a.Share)
	args = append(args, a.TTL.Microseconds(), a.Waits)
	for _, w := range a.Wants {
		args = append(args, w.Messages, w.Requests, w.Tokens, w.Reservation)
	}
	return args
}

func appendScopes(args []any, k Key, whole, share bucket.Limits) []any {
	scopes := []bucket.Limits{whole}
	if k.Share != "" {
		scopes = append(scopes, share)
	}
	args = append(args, len(scopes))
	for _, l := range scopes {
		args = append(args, l.Messages, l.Burst, l.Requests, l.Tokens)
	}
	return args
}

// answer reads what an acquire returns.
func answer(v []int64) (Answer, error) {
	if len(v) != 6+2*int(bucket.Metrics) {
		return Answer{}, fmt.Errorf("script answered %d numbers", len(v))
	}
	a := Answer{Answer: bucket.Answer{Now: v[0], Granted: int(v[1]), Wait: v[2], Turn: v[3], Metric: bucket.Metric(v[4] - 1)}, Expired: int(v[len(v)-1])}
	for m := range bucket.Metrics {
		a.Room[m] = bucket.Room{Remaining: v[5+2*m], Reset: v[6+2*m]}
	}
	return a, nil
}

// integers is what every operation of the script returns.
func integers(reply any) ([]int64, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, errors.New("script answered no list")
	}
	out := make([]int64, len(list))
	for i, v := range list {
		if out[i], ok = v.(int64); !ok {
			return nil, errors.New("script answered more than numbers")
		}
	}
	return out, nil
}
