package redis

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

const patience = 30 * time.Second

var orders = Key{Tenant: "acme", Queue: "orders"}

func perMinute(n int64) Ask {
	return Ask{Key: orders, Limits: bucket.Limits{Requests: n}, Wants: []Want{{Want: bucket.Want{Requests: 1}}}, TTL: time.Minute}
}

func tokens(n int64, reservation string, ttl time.Duration) Ask {
	return Ask{
		Key: orders, Limits: bucket.Limits{Tokens: 1000}, TTL: ttl,
		Wants: []Want{{bucket.Want{Tokens: n}, reservation}},
	}
}

func clientOf(t testing.TB, url string) *goredis.Client {
	t.Helper()
	o, err := goredis.ParseURL(url)
	require.NoError(t, err)
	c := goredis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return c
}

func TestEveryKeyHasATTL(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door, client, ctx := openDoor(t, url), clientOf(t, url), t.Context()
	ask := Ask{
		Key: Key{Tenant: "acme", Queue: "orders", Share: "gold"}, TTL: time.Second,
		Limits: bucket.Limits{Messages: 10, Burst: 1_000_000, Requests: 10, Tokens: 1000}, Share: bucket.Limits{Messages: 5, Requests: 5, Tokens: 500},
		Wants: []Want{{bucket.Want{Messages: 1, Requests: 1, Tokens: 100}, "r1"}, {bucket.Want{Messages: 50}, ""}},
	}
	_, err := door.Acquire(ctx, ask)
	require.NoError(t, err)
	_, err = door.Settle(ctx, ask.Key, ask.Limits, ask.Share, "other", 5)
	require.NoError(t, err)
	_, err = door.Usage(ctx, ask.Key)
	require.NoError(t, err)
	_, err = door.Shut(ctx, ask.Key, time.Minute, "429")
	require.NoError(t, err)
	require.NoError(t, door.Check(ctx))

	keys, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	require.Contains(t, keys, "rate_limit:{acme:orders}:all:60s")
	require.Contains(t, keys, "rate_limit:{acme:orders}:all/gold:60s")
	require.Contains(t, keys, "rate_limit:{acme:orders}:closed:until")
	require.Contains(t, keys, "rate_limit:{acme:orders}:tokens_per_minute/gold:reserved")
	require.Contains(t, keys, "rate_limit:{acme:orders}:tokens_per_minute/gold:expiring")
	for _, key := range keys {
		ttl, err := client.PTTL(ctx, key).Result()
		require.NoError(t, err)
		require.Positive(t, ttl, key)
	}
	whole, err := client.PTTL(ctx, "rate_limit:{acme:orders}:all:60s").Result()
	require.NoError(t, err)
	require.Greater(t, whole, time.Minute, "not forgotten before every window and the bucket are as new")
}

// A state lives exactly until it says nothing more: a bucket that takes long to fill is kept for long.
func TestStateOutlivesItsBucket(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door, client := openDoor(t, url), clientOf(t, url)
	_, err := door.Acquire(t.Context(), Ask{
		Key: orders, Limits: bucket.Limits{Messages: 1, Burst: 3600}, Wants: []Want{{Want: bucket.Want{Messages: 3600}}},
	})
	require.NoError(t, err)
	ttl, err := client.PTTL(t.Context(), orders.state()).Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour, ttl, float64(time.Minute))
}

func TestNamesDoNotMeet(t *testing.T) {
	t.Parallel()
	seen := map[string]Key{}
	for _, k := range []Key{
		{"a", "b", ""},
		{"a", "b:c", ""},
		{"a", "b}", ""},
		{"a", "{b", ""},
		{"a", "b/c", ""},
		{"a", "b", "c"},
		{"a", "b", "c/d"},
		{"a", "b/c", "d"},
		{"a", "b:all", ""},
		{"a", "ü", ""},
		{"a", "=", ""},
		{"a", "", ""},
	} {
		for _, key := range []string{k.state(), k.reserved(), k.expiring()} {
			require.NotContains(t, seen, key)
			seen[key] = k
		}
	}
}

// What was reserved by someone who died comes back when its time is up, and only then.
func TestReservationComesBack(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door, ctx := openDoor(t, url), t.Context()
	a, err := door.Acquire(ctx, tokens(900, "dies", 300*time.Millisecond))
	require.NoError(t, err)
	require.Equal(t, 1, a.Granted)
	taken := a.Now
	for {
		a, err = door.Acquire(ctx, tokens(500, "next", time.Minute))
		require.NoError(t, err)
		if a.Granted == 1 {
			break
		}
		require.Equal(t, bucket.Tokens, a.Metric)
	}
	require.Equal(t, 1, a.Expired)
	require.GreaterOrEqual(t, a.Now, taken+300_000)
	require.EqualValues(t, 500, a.Room[bucket.Tokens].Remaining)

	late, err := door.Settle(ctx, orders, bucket.Limits{Tokens: 1000}, bucket.Limits{}, "dies", 100)
	require.NoError(t, err)
	require.False(t, late.Found, "too late: it is not counted twice")
}

func TestSettleIsIdempotent(t *testing.T) {
	t.Parallel()
	door, ctx := openDoor(t, localtest.Redis(t)), t.Context()
	for range 3 { // so is an ask with a name: an answer may get lost
		a, err := door.Acquire(ctx, tokens(900, "r1", time.Minute))
		require.NoError(t, err)
		require.Equal(t, 1, a.Granted)
		require.EqualValues(t, 100, a.Room[bucket.Tokens].Remaining)
	}
	s, err := door.Settle(ctx, orders, bucket.Limits{Tokens: 1000}, bucket.Limits{}, "r1", 250)
	require.NoError(t, err)
	require.True(t, s.Found)
	require.EqualValues(t, 900, s.Taken)
	for range 3 {
		s, err = door.Settle(ctx, orders, bucket.Limits{Tokens: 1000}, bucket.Limits{}, "r1", 250)
		require.NoError(t, err)
		require.False(t, s.Found)
	}
	u, err := door.Usage(ctx, orders)
	require.NoError(t, err)
	require.EqualValues(t, 250, u.Use[bucket.Tokens].Used)
}

func TestClosing(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door, client, ctx := openDoor(t, url), clientOf(t, url), t.Context()
	until, err := door.Shut(ctx, orders, time.Minute, "429 from the provider {}\n")
	require.NoError(t, err)
	shorter, err := door.Shut(ctx, orders, time.Second, "")
	require.NoError(t, err)
	require.WithinDuration(t, until, shorter, patience, "a longer closing stands")

	a, err := door.Acquire(ctx, perMinute(10))
	require.NoError(t, err)
	require.Zero(t, a.Granted)
	require.Equal(t, bucket.Closed, a.Metric)
	require.InDelta(t, bucket.Minute, a.Wait, patience.Seconds()*bucket.Second)
	require.EqualValues(t, 10, a.Room[bucket.Requests].Remaining)

	// The clock went back by an hour: the key believes that it has that much longer to go.
	require.NoError(t, client.PExpire(ctx, orders.closed(), time.Hour).Err())
	left, _, err := door.ShutFor(ctx, orders)
	require.NoError(t, err)
	require.LessOrEqual(t, left, time.Minute)

	require.NoError(t, client.PExpire(ctx, orders.closed(), time.Millisecond).Err())
	require.Eventually(t, func() bool {
		a, err = door.Acquire(ctx, perMinute(10))
		return err == nil && a.Granted == 1
	}, patience, time.Millisecond)
}

func TestReset(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door, client, ctx := openDoor(t, url), clientOf(t, url), t.Context()
	other := Key{Tenant: "acme", Queue: "orders2"}
	for _, k := range []Key{orders, {Tenant: "acme", Queue: "orders", Share: "gold"}, other} {
		_, err := door.Acquire(ctx, Ask{
			Key: k, Limits: bucket.Limits{Tokens: 10}, Share: bucket.Limits{Tokens: 5}, TTL: time.Minute,
			Wants: []Want{{bucket.Want{Tokens: 1}, "r"}},
		})
		require.NoError(t, err)
	}
	_, err := door.Shut(ctx, orders, time.Minute, "")
	require.NoError(t, err)
	n, err := door.Reset(ctx, orders)
	require.NoError(t, err)
	require.Equal(t, 7, n, "two states, twice two of reservations, and the closing")
	keys, err := client.Keys(ctx, "*").Result()
	require.NoError(t, err)
	slices.Sort(keys)
	require.Equal(t, []string{other.state(), other.expiring(), other.reserved()}, keys)
	n, err = door.Reset(ctx, orders)
	require.NoError(t, err)
	require.Zero(t, n)
}

// ── What may happen to Redis ──

func TestScriptCacheLostAndRedisFlushed(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	door, client, ctx := openDoor(t, server.URL()), clientOf(t, server.URL()), t.Context()
	for range 2 {
		a, err := door.Acquire(ctx, perMinute(2))
		require.NoError(t, err)
		require.Equal(t, 1, a.Granted)
		require.NoError(t, client.ScriptFlush(ctx).Err())
	}
	a, err := door.Acquire(ctx, perMinute(2))
	require.NoError(t, err)
	require.Zero(t, a.Granted, "the count survived the lost script")
	require.NoError(t, client.FlushAll(ctx).Err())
	a, err = door.Acquire(ctx, perMinute(2))
	require.NoError(t, err)
	require.Equal(t, 1, a.Granted, "a flushed Redis counts from the beginning")
}

// watched is a door with its Watch, and what the two report.
type watched struct {
	*Door
	mu      sync.Mutex
	reasons []string
	turns   []bool
}

func watch(t *testing.T, url string, timeout time.Duration) *watched {
	t.Helper()
	w := &watched{}
	door, err := Open(Config{
		URL: url, Timeout: timeout,
		Failed: func(reason string) { w.mu.Lock(); defer w.mu.Unlock(); w.reasons = append(w.reasons, reason) },
		Turned: func(open bool, _ error) { w.mu.Lock(); defer w.mu.Unlock(); w.turns = append(w.turns, open) },
	})
	require.NoError(t, err)
	w.Door = door
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- door.Watch(ctx) }()
	t.Cleanup(func() {
		stop()
		require.ErrorIs(t, <-ended, context.Canceled)
		require.NoError(t, door.Close())
	})
	return w
}

// comesBack waits until the door decides again, by itself.
func (w *watched) comesBack(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := w.Acquire(t.Context(), perMinute(1000))
		return err == nil && w.Check(t.Context()) == nil
	}, patience, 5*time.Millisecond)
}

// givesUp asks until the door is shut, and then that it costs nothing to ask it.
func (w *watched) givesUp(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		_, err := w.Acquire(t.Context(), perMinute(1000))
		return errors.Is(err, ErrAway) && !w.breaker.IsClosed()
	}, patience, time.Millisecond)
	w.mu.Lock()
	failures := len(w.reasons)
	w.mu.Unlock()
	for range 100 {
		_, err := w.Acquire(t.Context(), perMinute(1000))
		require.ErrorIs(t, err, ErrAway)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Len(t, w.reasons, failures, "a shut door does not ask Redis")
	require.Error(t, w.Check(t.Context()))
}

func (w *watched) told(t *testing.T, reason string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	require.GreaterOrEqual(t, len(w.reasons), enough)
	require.Contains(t, w.reasons, reason)
	require.Equal(t, []bool{false, true}, w.turns, "shut once, opened once")
}

func TestRedisGone(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	w := watch(t, server.URL(), 2*time.Second)
	w.comesBack(t)
	require.NoError(t, server.Kill())
	w.givesUp(t)
	require.NoError(t, server.Start(t.Context()))
	w.comesBack(t)
	w.told(t, "unreachable")
}

// A Redis that takes connections and does not answer.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	w := watch(t, server.URL(), 50*time.Millisecond)
	w.comesBack(t)
	require.NoError(t, server.Pause())
	w.givesUp(t)
	require.NoError(t, server.Resume())
	w.comesBack(t)
	w.mu.Lock()
	defer w.mu.Unlock()
	require.Contains(t, w.reasons, "timeout")
}

func TestRedisNotThereAtTheStart(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	require.NoError(t, server.Kill())
	w := watch(t, server.URL(), 2*time.Second)
	w.givesUp(t)
	require.NoError(t, server.Start(t.Context()))
	w.comesBack(t)
}

// A replica that was promoted elsewhere answers, but takes no writes.
func TestRedisReadOnly(t *testing.T) {
	t.Parallel()
	primary, server := localtest.RedisServer(t), localtest.RedisServer(t)
	w := watch(t, server.URL(), 2*time.Second)
	w.comesBack(t)
	client := clientOf(t, server.URL())
	password := clientOf(t, primary.URL()).Options().Password
	require.NoError(t, client.ConfigSet(t.Context(), "masterauth", password).Err())
	require.NoError(t, client.ReplicaOf(t.Context(), "127.0.0.1", strconv.Itoa(primary.Port())).Err())
	w.givesUp(t)
	require.NoError(t, client.ReplicaOf(t.Context(), "NO", "ONE").Err())
	w.comesBack(t)
	w.told(t, "readonly")
}

// A foreign value under one key is that queue's trouble alone.
func TestForeignValue(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	door, client, ctx := openDoor(t, url), clientOf(t, url), t.Context()
	require.NoError(t, client.HSet(ctx, orders.state(), "a", "b").Err())
	for range 3 * enough {
		_, err := door.Acquire(ctx, perMinute(1))
		require.ErrorIs(t, err, ErrAway)
	}
	ask := perMinute(1)
	ask.Key.Queue = "others"
	_, err := door.Acquire(ctx, ask)
	require.NoError(t, err)

	require.NoError(t, client.Set(ctx, orders.state(), "\x63of another version", time.Minute).Err())
	a, err := door.Acquire(ctx, perMinute(1))
	require.NoError(t, err)
	require.Equal(t, 1, a.Granted, "a state of another version counts from the beginning")
}

// A caller that gives up says nothing of Redis.
func TestCallerGivesUp(t *testing.T) {
	t.Parallel()
	door := openDoor(t, localtest.Redis(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 3 * enough {
		_, err := door.Acquire(ctx, perMinute(1000))
		require.ErrorIs(t, err, context.Canceled)
	}
	_, err := door.Acquire(t.Context(), perMinute(1000))
	require.NoError(t, err)
}

// Many at once on one queue: exactly the limit passes.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	door := openDoor(t, localtest.Redis(t))
	granted := make(chan int, 16)
	for range 16 {
		go func() {
			sum := 0
			for range 50 {
				a, err := door.Acquire(t.Context(), perMinute(333))
				if err != nil {
					sum = -1
					break
				}
				sum += a.Granted
			}
			granted <- sum
		}()
	}
	sum := 0
	for range 16 {
		n := <-granted
		require.GreaterOrEqual(t, n, 0)
		sum += n
	}
	require.Equal(t, 333, sum)
}

func ExampleKey() {
	k := Key{Tenant: "acme", Queue: "wf_01/to summary", Share: "gold"}
	fmt.Println(k.whole().state())
	fmt.Println(k.state())
	fmt.Println(k.closed())
	// Output:
	// rate_limit:{acme:wf_01=2Fto=20summary}:all:60s
	// rate_limit:{acme:wf_01=2Fto=20summary}:all/gold:60s
	// rate_limit:{acme:wf_01=2Fto=20summary}:closed:until
}

// A user of Redis with no more rights than docs/limits.md names is enough for everything.
func TestLeastRights(t *testing.T) {
	t.Parallel()
	server := localtest.RedisServer(t)
	admin, ctx := clientOf(t, server.URL()), t.Context()
	const rights = "+@scripting +@read +@write +@connection +time"
	docs, err := os.ReadFile("../../../../docs/limits.md")
	require.NoError(t, err)
	require.Contains(t, string(docs), "`"+rights+"`")
	args := []any{"ACL", "SETUSER", "limiter", "on", ">secret", "~rate_limit:*"}
	for right := range strings.FieldsSeq(rights) {
		args = append(args, right)
	}
	require.NoError(t, admin.Do(ctx, args...).Err())
	door := openDoor(t, fmt.Sprintf("redis://limiter:secret@127.0.0.1:%d", server.Port()))
	a, err := door.Acquire(ctx, tokens(10, "r", time.Minute))
	require.NoError(t, err)
	require.Equal(t, 1, a.Granted)
	_, err = door.Settle(ctx, orders, bucket.Limits{Tokens: 1000}, bucket.Limits{}, "r", 5)
	require.NoError(t, err)
	_, err = door.Shut(ctx, orders, time.Minute, "")
	require.NoError(t, err)
	_, err = door.Usage(ctx, orders)
	require.NoError(t, err)
	_, err = door.Reset(ctx, orders)
	require.NoError(t, err)
	require.NoError(t, door.Check(ctx))
}

// docs/limits.md names every kind of key.
func TestDocumentedKeys(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../../../../docs/limits.md")
	require.NoError(t, err)
	k := Key{Tenant: "acme", Queue: "orders", Share: "gold"}
	for _, key := range []string{k.whole().state(), k.state(), k.closed(), k.whole().reserved(), k.whole().expiring(), k.probe()} {
		key = strings.NewReplacer("{acme:orders}", "{<tenant>:<queue>}", "/gold", "/<sub-queue>").Replace(key)
		require.Contains(t, string(docs), "`"+key+"`")
	}
}
