package localtest_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/local/localtest"
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

func TestEveryTestHasItsOwnDatabase(t *testing.T) {
	var mu sync.Mutex
	var used []string
	t.Run("tests", func(t *testing.T) {
		for i := range 4 {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				address := localtest.Postgres(t)
				mu.Lock()
				used = append(used, address)
				mu.Unlock()
				// Fails where another has made it already.
				require.NoError(t, execute(t, address, "CREATE TABLE mine (n int)"))
			})
		}
	})
	for _, address := range used {
		var refused *pgconn.PgError
		require.ErrorAs(t, execute(t, address, "SELECT 1"), &refused)
		require.Equal(t, "3D000", refused.Code, "the database is dropped")
	}
}

func TestADatabaseIsDroppedUnderOpenConnections(t *testing.T) {
	var conn *pgconn.PgConn
	t.Run("leaky", func(t *testing.T) {
		var err error
		conn, err = pgconn.Connect(t.Context(), localtest.Postgres(t))
		require.NoError(t, err)
	})
	require.Error(t, conn.Ping(t.Context()))
	require.NoError(t, conn.Close(t.Context()))
}

func TestEveryTestHasItsOwnRedisDatabase(t *testing.T) {
	// More tests than databases: the last ones wait.
	const tests = 70
	t.Run("tests", func(t *testing.T) {
		for i := range tests {
			t.Run(strconv.Itoa(i), func(t *testing.T) {
				t.Parallel()
				client := connect(t, localtest.Redis(t))
				require.Zero(t, client.DBSize(t.Context()).Val(), "it starts empty")
				require.NoError(t, client.Set(t.Context(), "k", "v", 0).Err())
				require.EqualValues(t, 1, client.DBSize(t.Context()).Val())
			})
		}
	})
	var held []string
	for range 63 {
		held = append(held, localtest.Redis(t))
	}
	require.Len(t, held, 63, "all have been given back")
}

func TestPrivateServersMayBeKilled(t *testing.T) {
	shared := localtest.Postgres(t)
	postgres, redis := localtest.PostgresServer(t), localtest.RedisServer(t)
	require.NoError(t, postgres.Kill())
	require.NoError(t, redis.Kill())
	require.NoError(t, execute(t, shared, "SELECT 1"), "the shared one is another")
	require.NoError(t, postgres.Start(t.Context()))
	require.NoError(t, redis.Start(t.Context()))
	require.NoError(t, execute(t, postgres.URL(), "SELECT 1"))
	require.NoError(t, connect(t, redis.URL()).Ping(t.Context()).Err())
}

func TestFoldersOfDeadProcessesAreRemoved(t *testing.T) {
	localtest.PostgresServer(t) // makes the folder of folders
	//nolint:usetesting // the folder that all test processes share
	run := filepath.Join(os.TempDir(), "agentflow-test-"+strconv.Itoa(os.Geteuid()), "run")
	dead, alive := filepath.Join(run, "0-dead"), filepath.Join(run, "0-alive")
	require.NoError(t, os.MkdirAll(filepath.Join(dead, "server", "data"), 0o700))
	lock, err := local.LockDir(alive)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, lock.Unlock())
		require.NoError(t, os.RemoveAll(alive))
	})

	localtest.RedisServer(t)
	require.NoDirExists(t, dead)
	require.DirExists(t, alive)
}

// A test process that is told of servers uses them.
func TestServersOfTheEnvironment(t *testing.T) {
	const postgresPort, redisPort = "LOCALTEST_WANT_POSTGRES_PORT", "LOCALTEST_WANT_REDIS_PORT"
	if want := os.Getenv(postgresPort); want != "" {
		require.Contains(t, localtest.Postgres(t), ":"+want+"/")
		require.Contains(t, localtest.Redis(t), ":"+os.Getenv(redisPort)+"/")
		return
	}
	postgres, redis := localtest.PostgresServer(t), localtest.RedisServer(t)
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^TestServersOfTheEnvironment$")
	child.Env = append(os.Environ(),
		postgresPort+"="+strconv.Itoa(postgres.Port()), "AGENTFLOW_TEST_DATABASE_URL="+postgres.URL(),
		redisPort+"="+strconv.Itoa(redis.Port()), "AGENTFLOW_TEST_REDIS_URL="+redis.URL(),
	)
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "--- PASS: TestServersOfTheEnvironment")
}

func execute(t *testing.T, address, statement string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := pgconn.Connect(ctx, address)
	if err != nil {
		return err
	}
	defer func() { require.NoError(t, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement).ReadAll()
	return err
}

func connect(t *testing.T, address string) *redis.Client {
	t.Helper()
	options, err := redis.ParseURL(address)
	require.NoError(t, err)
	client := redis.NewClient(options)
	t.Cleanup(func() { require.NoError(t, client.Close()) })
	return client
}
