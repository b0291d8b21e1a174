package redis

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

// replica does with the model what the script does with Redis.
type replica struct {
	whole, share bucket.Queue
	reserved     map[string]held
}

type held struct{ at, until, taken int64 }

func (r *replica) scopes(a Ask) []bucket.Scope {
	s := []bucket.Scope{{Queue: &r.whole, Limits: a.Limits}}
	if a.Key.Share != "" {
		s = append(s, bucket.Scope{Queue: &r.share, Limits: a.Share})
	}
	return s
}

func (r *replica) settle(now int64, a Ask, h held, used int64) {
	for _, s := range r.scopes(a) {
		bucket.Settle(now, h.at, h.taken, used, s.Queue, s.Limits)
	}
}

func (r *replica) acquire(now int64, a Ask) Answer {
	out := Answer{}
	if a.Limits.Tokens > 0 {
		out.Expired = r.sweep(now, a)
	}
	wants := make([]bucket.Want, 0, len(a.Wants))
	names := make([]string, 0, len(a.Wants))
	again := 0
	for _, w := range a.Wants {
		if _, ok := r.reserved[w.Reservation]; ok {
			again++
			continue
		}
		wants, names = append(wants, w.Want), append(names, w.Reservation)
	}
	out.Answer = bucket.Acquire(now, bucket.Ask{Wants: wants, Waits: a.Waits}, r.scopes(a)...)
	for i := range out.Granted {
		if names[i] != "" && a.Limits.Tokens > 0 {
			r.reserved[names[i]] = held{now, now + a.TTL.Microseconds(), min(wants[i].Tokens, a.Limits.Tokens)}
		}
	}
	if out.Granted == len(wants) {
		out.Granted += again // the replica is never asked for a name behind a refusal
	}
	return out
}

func (r *replica) sweep(now int64, a Ask) int {
	var dead []string
	for name, h := range r.reserved {
		if h.until <= now {
			dead = append(dead, name)
		}
	}
	slices.SortFunc(dead, func(x, y string) int {
		if c := r.reserved[x].until - r.reserved[y].until; c != 0 {
			return int(c)
		}
		return slices.Compare([]byte(x), []byte(y))
	})
	dead = dead[:min(len(dead), 16)]
	for _, name := range dead {
		r.settle(now, a, r.reserved[name], 0)
		delete(r.reserved, name)
	}
	return len(dead)
}

// trial is a random history of one queue, on Redis and on the replica at once.
type trial struct {
	t     *rapid.T
	ctx   context.Context
	door  *Door
	model replica
	ask   Ask
	names []string
}

func newTrial(ctx context.Context, t *rapid.T, d *Door, n int) *trial {
	limit := func(name string, top int64) int64 {
		if rapid.Bool().Draw(t, name+" limited") {
			return rapid.Int64Range(1, top).Draw(t, name)
		}
		return 0
	}
	tr := &trial{t: t, ctx: ctx, door: d, model: replica{reserved: map[string]held{}}}
	tr.ask.Key = Key{Tenant: "acme", Queue: fmt.Sprintf("q/%d{}", n)}
	tr.ask.Limits = bucket.Limits{
		Messages: limit("messages", 300), Burst: limit("burst", 300), Requests: limit("requests", 300), Tokens: limit("tokens", 5_000_000),
	}
	if rapid.Bool().Draw(t, "a share") {
		tr.ask.Key.Share = "gold"
		tr.ask.Share = tr.ask.Limits.Share(rapid.Float64Range(0.01, 1).Draw(t, "weight"))
	}
	tr.ask.TTL = time.Duration(rapid.Int64Range(1, 100).Draw(t, "ttl")) * time.Second
	return tr
}

func (tr *trial) acquire(t *rapid.T) {
	ask := tr.ask
	ask.Waits = rapid.Bool().Draw(t, "waits")
	whole, share := ask.Limits, ask.Share
	if ask.Key.Share == "" {
		share = whole
	}
	upTo := func(name string, a, b int64) int64 {
		if a == 0 {
			a, b = 3, 3
		}
		return rapid.Int64Range(0, min(a, b, 40)).Draw(t, name)
	}
	for range rapid.IntRange(1, 4).Draw(t, "wants") {
		w := Want{Want: bucket.Want{
			Messages: upTo("messages", whole.Capacity(), share.Capacity()), Requests: upTo("requests", whole.Requests, share.Requests),
			Tokens: rapid.Int64Range(0, rapid.SampledFrom([]int64{5, 5, whole.Tokens/20 + 5, whole.Tokens + 5}).Draw(t, "tokens up to")).Draw(t, "tokens"),
		}}
		if rapid.Bool().Draw(t, "reserve") {
			w.Reservation = fmt.Sprintf("r%d", len(tr.names))
			tr.names = append(tr.names, w.Reservation)
		}
		ask.Wants = append(ask.Wants, w)
	}
	got, err := tr.door.Acquire(tr.ctx, ask)
	require.NoError(t, err)
	require.Equal(t, tr.model.acquire(got.Now, ask), got)
}

// again repeats an ask whose answer was lost.
func (tr *trial) again(t *rapid.T) {
	if len(tr.names) == 0 {
		t.Skip("nothing reserved yet")
	}
	ask := tr.ask
	name := rapid.SampledFrom(tr.names).Draw(t, "name")
	ask.Wants = []Want{{bucket.Want{Tokens: 3}, name}}
	got, err := tr.door.Acquire(tr.ctx, ask)
	require.NoError(t, err)
	require.Equal(t, tr.model.acquire(got.Now, ask), got)
}

func (tr *trial) settle(t *rapid.T) {
	if len(tr.names) == 0 {
		t.Skip("nothing reserved yet")
	}
	name := rapid.SampledFrom(tr.names).Draw(t, "name")
	used := rapid.Int64Range(0, tr.ask.Limits.Tokens+1000).Draw(t, "used")
	got, err := tr.door.Settle(tr.ctx, tr.ask.Key, tr.ask.Limits, tr.ask.Share, name, used)
	require.NoError(t, err)
	want := Settlement{Now: got.Now}
	if h, ok := tr.model.reserved[name]; ok {
		want = Settlement{Now: got.Now, Found: true, Taken: h.taken, At: h.at}
		tr.model.settle(got.Now, tr.ask, h, used)
		delete(tr.model.reserved, name)
	}
	require.Equal(t, want, got)
}

func (tr *trial) usage(t *rapid.T) {
	for _, k := range []Key{tr.ask.Key, tr.ask.Key.whole()} {
		got, err := tr.door.Usage(tr.ctx, k)
		require.NoError(t, err)
		q := tr.model.whole
		if k.Share != "" {
			q = tr.model.share
		}
		copied := q.Clone()
		require.Equal(t, Usage{Now: got.Now, Use: copied.Usage(got.Now)}, got)
	}
}

func openDoor(t testing.TB, url string) *Door {
	t.Helper()
	d, err := Open(Config{URL: url, Timeout: 5 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// Every answer of the script is the model's, whatever time does: it stands still, runs, leaps
// ahead and goes back.
func TestScriptIsTheModel(t *testing.T) {
	t.Parallel()
	server := miniredis.RunT(t)
	server.ClockTTL(true)
	door := openDoor(t, "redis://"+server.Addr())
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		tr := newTrial(t.Context(), rt, door, n)
		clock := time.UnixMicro(1_789_000_123_456_789)
		server.SetTime(clock)
		asked := clock // when the stand-in was last asked for anything
		kept := clock  // when it last got a state to keep
		start := clock
		floor := start // what it may have forgotten by now it cannot know again, however far the clock goes back
		asking := func(ask func(*rapid.T)) func(*rapid.T) {
			return func(t *rapid.T) {
				ask(t)
				asked = clock
				if clock.Sub(kept) >= time.Minute && clock.After(floor) {
					floor = clock
				}
			}
		}
		keeping := func(ask func(*rapid.T)) func(*rapid.T) {
			ask = asking(ask)
			return func(t *rapid.T) { ask(t); kept = clock }
		}
		rt.Repeat(map[string]func(*rapid.T){
			"acquire": keeping(tr.acquire), "more": keeping(tr.acquire), "most": keeping(tr.acquire), "again": asking(tr.again),
			"settle": asking(tr.settle), "usage": asking(tr.usage),
			"time": func(t *rapid.T) {
				top := rapid.SampledFrom([]int64{30_000, 500_000, 4_000_000, 20_000_000}).Draw(t, "up to")
				clock = clock.Add(time.Duration(rapid.Int64Range(0, top).Draw(t, "us")) * time.Microsecond)
				server.SetTime(clock)
			},
			"slots": func(t *rapid.T) { // to the first microsecond of a slot, where mistakes would be
				width := rapid.SampledFrom([]time.Duration{bucket.Second / bucket.SecondSlots, 2 * bucket.Second / bucket.SecondSlots, bucket.Minute / bucket.MinuteSlots}).Draw(t, "width") * time.Microsecond
				clock = clock.Truncate(width).Add(width * time.Duration(rapid.IntRange(1, 26).Draw(t, "slots")))
				server.SetTime(clock)
			},
			"back": func(t *rapid.T) {
				top := rapid.SampledFrom([]int64{1_000, 30_000, 4_000_000, 3_600_000_000}).Draw(t, "up to")
				clock = clock.Add(-time.Duration(rapid.Int64Range(0, top).Draw(t, "us")) * time.Microsecond)
				if clock.Before(floor) && floor.After(start) {
					clock = floor
				}
				server.SetTime(clock)
				if !clock.Before(asked) {
					return
				}
				// Redis keeps the moment at which a key expires, the stand-in how long that was off when it was last asked.
				for _, key := range server.Keys() {
					if left := server.TTL(key); left > 0 {
						server.SetTTL(key, left+asked.Sub(clock))
					}
				}
				asked = clock
			},
		})
	})
}

// The same on a real Redis and its own clock. What takes minutes is done by ageing the state: its
// moment is moved, in Redis and in the replica.
func TestScriptIsTheModelOnRedis(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door := openDoor(t, url)
	o, err := goredis.ParseURL(url)
	require.NoError(t, err)
	client := goredis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		n++
		tr := newTrial(t.Context(), rt, door, n)
		rt.Repeat(map[string]func(*rapid.T){
			"acquire": tr.acquire, "more": tr.acquire, "most": tr.acquire, "again": tr.again, "settle": tr.settle, "usage": tr.usage,
			"age": func(t *rapid.T) {
				top := rapid.SampledFrom([]int64{30_000, 500_000, 4_000_000, 70_000_000}).Draw(t, "up to")
				tr.age(t, client, rapid.Int64Range(-top/10, top).Draw(t, "us"))
			},
		})
	})
}

func (tr *trial) age(t *rapid.T, c *goredis.Client, us int64) {
	for _, k := range []Key{tr.ask.Key.whole(), tr.ask.Key} {
		s, err := c.Get(tr.ctx, k.state()).Bytes()
		if err == nil {
			last := int64(0)
			for _, b := range s[1:8] {
				last = last<<8 | int64(b)
			}
			last -= us
			for i := 7; i >= 1; i-- {
				s[i] = byte(last)
				last >>= 8
			}
			require.NoError(t, c.Set(tr.ctx, k.state(), s, goredis.KeepTTL).Err())
		} else {
			require.ErrorIs(t, err, goredis.Nil)
		}
		if k.Share == "" {
			tr.model.whole.Age(us)
		} else {
			tr.model.share.Age(us)
		}
		if tr.ask.Key.Share == "" {
			break
		}
	}
}
