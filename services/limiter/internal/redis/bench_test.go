package redis

import (
	"context"
	"fmt"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/services/limiter/internal/bucket"
)

var everyLimit = bucket.Limits{Messages: 5_000, Requests: 250_000, Tokens: 16_000_000}

// BenchmarkAcquire decides on all three metrics at once, on a hundred queues, without NATS.
func BenchmarkAcquire(b *testing.B) {
	for _, clients := range []int{1, 64} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			door, err := Open(Config{URL: localtest.Redis(b), Timeout: 5 * time.Second})
			require.NoError(b, err)
			b.Cleanup(func() { require.NoError(b, door.Close()) })
			each(b, clients, func(ctx context.Context, i int) error {
				_, err := door.Acquire(ctx, Ask{
					Key: Key{Tenant: "acme", Queue: fmt.Sprintf("queue-%d", i%100)}, Limits: everyLimit,
					Wants: []Want{{Want: bucket.Want{Messages: 1, Requests: 1, Tokens: 500}}},
				})
				return err
			})
		})
	}
}

// each calls do b.N times from so many goroutines.
func each(b *testing.B, clients int, do func(context.Context, int) error) {
	b.Helper()
	errs := make(chan error, clients)
	b.ResetTimer()
	for c := range clients {
		go func() {
			var err error
			for i := c; i < b.N && err == nil; i += clients {
				err = do(b.Context(), i)
			}
			errs <- err
		}()
	}
	for range clients {
		require.NoError(b, <-errs)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "acquires/s")
}

// BenchmarkMemory measures what a queue with all limits takes in Redis when every slot of every
// window is in use.
func BenchmarkMemory(b *testing.B) {
	url := localtest.Redis(b)
	door, err := Open(Config{URL: url, Timeout: 5 * time.Second})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, door.Close()) })
	o, err := goredis.ParseURL(url)
	require.NoError(b, err)
	client := goredis.NewClient(o)
	b.Cleanup(func() { require.NoError(b, client.Close()) })
	bytes := int64(0)
	for b.Loop() {
		bytes = queueMemory(b, door, client)
	}
	b.ReportMetric(float64(bytes), "B/queue")
}

// queueMemory is what Redis says one active queue takes, over all its keys.
func queueMemory(tb testing.TB, door *Door, client *goredis.Client) int64 {
	tb.Helper()
	k := Key{Tenant: "a-tenant-of-ordinary-name", Queue: "wf_01j5zq4k9ce2vt6nh8m3r7wxyb/to_summary"}
	_, err := door.Acquire(tb.Context(), Ask{Key: k, Limits: everyLimit, Wants: []Want{{Want: bucket.Want{Messages: 1, Requests: 1, Tokens: 500}}}})
	require.NoError(tb, err)
	keys, err := client.Keys(tb.Context(), k.prefix()+"*").Result()
	require.NoError(tb, err)
	require.NotEmpty(tb, keys)
	var sum int64
	for _, key := range keys {
		n, err := client.MemoryUsage(tb.Context(), key).Result()
		require.NoError(tb, err)
		sum += n
	}
	return sum
}

func TestMemoryOfAQueue(t *testing.T) {
	t.Parallel()
	url := localtest.Redis(t)
	o, err := goredis.ParseURL(url)
	require.NoError(t, err)
	client := goredis.NewClient(o)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	require.LessOrEqual(t, queueMemory(t, openDoor(t, url), client), int64(600))
}
