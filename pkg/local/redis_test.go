package local_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/agentflow/agentflow/pkg/local"
)

func TestRedisStartsStopsAndComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), `re dis "`)
	server := startRedis(t, local.RedisOptions{Dir: dir, Databases: 40})
	address := server.URL()
	client := connect(t, address)
	require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
	require.Equal(t, map[string]string{"maxmemory-policy": "noeviction"}, client.ConfigGet(t.Context(), "maxmemory-policy").Val())
	require.NoError(t, connect(t, strings.TrimSuffix(address, "/0")+"/39").Ping(t.Context()).Err())
	require.False(t, server.StandIn())

	require.NoError(t, server.Restart(t.Context()))
	require.Equal(t, address, server.URL())
	require.NoError(t, server.Kill())
	requireClosed(t, server.Exited())
	require.Error(t, ping(t, address))
	require.NoError(t, server.Start(t.Context()))
	require.NoError(t, ping(t, address))

	require.NoError(t, server.Stop(t.Context()))
	require.NoError(t, server.Stop(t.Context()), "a second time")
	require.Error(t, ping(t, address))

	again := startRedis(t, local.RedisOptions{Dir: dir})
	require.Equal(t, address, again.URL())
}

func TestRedisDemandsItsPassword(t *testing.T) {
	server := startRedis(t, local.RedisOptions{Dir: t.TempDir()})
	for name, credentials := range map[string]string{"none": "", "wrong": ":wrong@"} {
		_, host, _ := strings.Cut(server.URL(), "@")
		require.Error(t, ping(t, "redis://"+credentials+host), name)
	}
	require.NoError(t, ping(t, server.URL()))
}

func TestRedisCanBeSuspended(t *testing.T) {
	server := startRedis(t, local.RedisOptions{Dir: t.TempDir()})
	client := connect(t, server.URL())
	require.NoError(t, client.Ping(t.Context()).Err())

	require.NoError(t, server.Pause())
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.Error(t, client.Ping(ctx).Err(), "nothing answers while it is suspended")
	require.NoError(t, server.Resume())
	require.NoError(t, client.Ping(t.Context()).Err())

	require.NoError(t, server.Pause())
	require.NoError(t, server.Stop(t.Context()), "a suspended server stops too")
}

func TestRedisFolderIsForOne(t *testing.T) {
	dir := t.TempDir()
	first := startRedis(t, local.RedisOptions{Dir: dir})
	_, err := local.StartRedis(t.Context(), local.RedisOptions{Dir: dir})
	var locked *local.LockedError
	require.ErrorAs(t, err, &locked)
	require.NoError(t, ping(t, first.URL()))
}

func TestRedisStartErrorQuotesTheLog(t *testing.T) {
	server := startRedis(t, local.RedisOptions{Dir: t.TempDir()})
	_, err := local.StartRedis(t.Context(), local.RedisOptions{Dir: t.TempDir(), Port: server.Port()})
	require.ErrorContains(t, err, "ddress already in use")
}

func TestRedisIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	_, err := local.StartRedis(t.Context(), local.RedisOptions{Dir: t.TempDir()})
	require.ErrorIs(t, err, local.ErrNoRedis)
	require.ErrorContains(t, err, "apt-get install redis-server")
}

func TestStandIn(t *testing.T) {
	server, err := local.StartRedisStandIn(t.Context())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(cleanup(t))) })
	require.True(t, server.StandIn())
	client := connect(t, server.URL())

	t.Run("keys expire by themselves", func(t *testing.T) {
		require.NoError(t, client.Set(t.Context(), "short", "v", 20*time.Millisecond).Err())
		require.NoError(t, client.Set(t.Context(), "long", "v", time.Hour).Err())
		require.Eventually(t, func() bool {
			return client.Exists(t.Context(), "short").Val() == 0
		}, time.Minute, 5*time.Millisecond)
		require.EqualValues(t, 1, client.Exists(t.Context(), "long").Val())
	})
	t.Run("scripts see the clock", func(t *testing.T) {
		script := `redis.call('SET', KEYS[1], ARGV[1], 'PX', 60000); return redis.call('TIME')[1]`
		before := time.Now().Unix()
		seconds, err := client.Eval(t.Context(), script, []string{"s"}, "v").Int64()
		require.NoError(t, err)
		require.GreaterOrEqual(t, seconds, before)
	})
	t.Run("it demands its password", func(t *testing.T) {
		_, host, _ := strings.Cut(server.URL(), "@")
		require.Error(t, ping(t, "redis://"+host))
	})
	t.Run("it is not a process", func(t *testing.T) {
		require.Error(t, server.Kill())
		require.Error(t, server.Pause())
	})
	t.Run("it stops", func(t *testing.T) {
		require.NoError(t, server.Stop(t.Context()))
		require.NoError(t, server.Stop(t.Context()))
		requireClosed(t, server.Exited())
		require.Error(t, ping(t, server.URL()))
	})
}

func startRedis(t *testing.T, o local.RedisOptions) *local.Redis {
	t.Helper()
	require.NoError(t, os.MkdirAll(o.Dir, 0o700))
	o.Log = zaptest.NewLogger(t)
	server, err := local.StartRedis(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(cleanup(t))) })
	return server
}

// connect makes a client that tries once, so that an error shows.
func connect(t *testing.T, address string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(address)
	require.NoError(t, err)
	options.MaxRetries, options.DialerRetries = -1, 1
	options.ContextTimeoutEnabled = true
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}

func ping(t *testing.T, address string) error {
	t.Helper()
	options, err := redis.ParseURL(address)
	require.NoError(t, err)
	options.MaxRetries, options.DialerRetries = -1, 1
	client := redis.NewClient(options)
	defer func() { require.NoError(t, client.Close()) }()
	return client.Ping(t.Context()).Err()
}
