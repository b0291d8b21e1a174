package db_test

import (
	"bytes"
	"context"
	"database/sql"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/local/localtest"
)

// A condition is looked at every tick; only a broken test waits for the whole time.
const (
	waitFor = 30 * time.Second
	tick    = 10 * time.Millisecond
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

// connect opens a database with the live schema in its search path.
func connect(t *testing.T, databaseURL string) *sql.DB {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	q := u.Query()
	q.Set("search_path", db.Schema)
	q.Set("sslmode", "disable")
	u.RawQuery = q.Encode()
	pool, err := sql.Open("postgres", u.String())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pool.Close()) })
	return pool
}

func files(t *testing.T) []string {
	t.Helper()
	list, err := fs.Glob(os.DirFS("."), "migrations/*.sql")
	require.NoError(t, err)
	require.NotEmpty(t, list)
	for i, f := range list {
		list[i] = filepath.Base(f)
	}
	return list
}

func applied(t *testing.T, databaseURL string) int {
	t.Helper()
	list, err := db.Status(t.Context(), databaseURL, db.Options{})
	require.NoError(t, err)
	require.Len(t, list, len(files(t)))
	n := 0
	for _, m := range list {
		if m.Applied {
			n++
		}
	}
	return n
}

func TestUpDownUp(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.Zero(t, applied(t, database))

	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	require.Equal(t, len(files(t)), applied(t, database))
	pool := connect(t, database)
	full := describe(t, pool)

	require.NoError(t, db.Down(t.Context(), database, -1, db.Options{}))
	require.Zero(t, applied(t, database))
	require.Equal(t, []string{"schema_migrations"}, column(t, pool,
		"select tablename from pg_tables where schemaname = 'agentflow' order by 1"), "down to zero leaves nothing of ours")
	require.Empty(t, column(t, pool,
		"select proname from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'agentflow'"))
	require.ErrorContains(t, db.Down(t.Context(), database, 1, db.Options{}), "no migration is applied")

	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	require.Equal(t, full, describe(t, pool))
}

// Each single step goes back and forth while the tables hold rows, and what the step does not
// concern survives.
func TestEachStepWithData(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	pool := connect(t, database)
	full := describe(t, pool)
	n := len(files(t))
	for steps := 1; steps <= n; steps++ {
		fill(t, pool)
		require.NoError(t, db.Down(t.Context(), database, steps, db.Options{}), "down %d", steps)
		require.Equal(t, n-steps, applied(t, database))
		if steps < n-1 { // the tables of the second file still stand
			require.Equal(t, []string{"acme"}, column(t, pool, "select id from tenants"), "down %d", steps)
		}
		require.NoError(t, db.Migrate(t.Context(), database, db.Options{}), "up %d", steps)
		require.Equal(t, full, describe(t, pool), "up %d", steps)
	}
}

// fill puts a row into every table that has none.
func fill(t *testing.T, pool *sql.DB) {
	t.Helper()
	for _, statement := range []string{
		`insert into tenants values ('acme', 'Acme', 'active', '{}', 1, now(), now(), 1, 1) on conflict do nothing`,
		`insert into api_keys values ('key_1', 'acme', 'k', 'h', 'p', '{a}', 'active', null, 1, now(), null, null, null, null, 1, 2) on conflict do nothing`,
		`insert into workflows values ('wf_1', 'acme', 'w', 'd', 'draft', 1, '{}', now(), 'me', now(), 'me', null, null, 'w d', '{w}', 1, 3) on conflict do nothing`,
		`insert into workflow_versions values ('wf_1', 1, 'acme', 'w', 'd', 'draft', '{}', now(), 'me', 3) on conflict do nothing`,
		`insert into workflow_sources values ('acme', 's', 'wf_1') on conflict do nothing`,
		`insert into sources values ('acme', 's', 'llm', '', '{}', 'active', 1, now(), 'me', now(), 'me', null, null, 1, 4) on conflict do nothing`,
		`insert into executions (id, tenant_id, workflow_name, spec_hash, status, tags, actor, request_id, created_at, tokens_used, cost, nodes_run, nodes, partition, first_seq, last_seq)
		 values ('exec_1', 'acme', 'w', '', 'PENDING', '{t}', '', '', now(), 1, 0.25, 0, '[]', 0, 1, 1) on conflict do nothing`,
		`insert into execution_tags values ('acme', 't', now(), 'exec_1') on conflict do nothing`,
		`select create_event_partitions('2026-01-01', '2026-01-02')`,
		`insert into execution_events values (0, 1, 'acme', 'exec_1', 0, 'c', '2026-01-01T12:00:00Z', '{}'), (0, 2, 'acme', 'exec_1', 1, 'c', '2020-01-01T12:00:00Z', '{}') on conflict do nothing`,
		`insert into audit_log values ('cat_1', 1, now(), 'acme', 'me', 'tenant_created', 'tenant', 'acme', '', 'c', null, '{}', '') on conflict do nothing`,
		`insert into command_refusals values ('c', 'acme', now(), '{}') on conflict do nothing`,
		`insert into projection_checkpoints values ('CATALOG', 1, now()) on conflict do nothing`,
		`insert into row_counts values ('acme', 'workflow', 'draft', 0, 1) on conflict do nothing`,
	} {
		_, err := pool.ExecContext(t.Context(), statement)
		require.NoError(t, err, statement)
	}
}

func TestTwoInstancesAtOnce(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	const instances = 4
	var (
		wg   sync.WaitGroup
		errs [instances]error
		logs [instances]bytes.Buffer
	)
	for i := range instances {
		wg.Go(func() {
			if errs[i] = db.Migrate(t.Context(), database, db.Options{Log: &logs[i]}); errs[i] == nil {
				_, errs[i] = db.Provision(t.Context(), database, db.Access{})
			}
		})
	}
	wg.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	lines := 0
	for i := range logs {
		lines += strings.Count(logs[i].String(), "Applying:")
	}
	require.Equal(t, len(files(t)), lines, "each file is applied by one of them")
}

func TestMigrationGivesUpOnALock(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	pool := connect(t, database)
	tx, err := pool.BeginTx(t.Context(), nil)
	require.NoError(t, err)
	_, err = tx.ExecContext(t.Context(), "lock table row_counts in access share mode")
	require.NoError(t, err)
	// The last two files change executions and drop functions, the one before them drops row_counts.
	require.ErrorContains(t, db.Down(t.Context(), database, 3, db.Options{}), "lock timeout")
	require.NoError(t, tx.Rollback())
	require.NoError(t, db.Down(t.Context(), database, 1, db.Options{}))
}

func TestWaitingForTheLockEndsWithItsContext(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	pool := connect(t, database)
	conn, err := pool.Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "select pg_advisory_lock($1)", 0x41464d49)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- db.Migrate(ctx, database, db.Options{}) }()
	require.Eventually(t, func() bool {
		return len(column(t, pool, "select pid::text from pg_locks where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())")) == 1
	}, waitFor, tick)
	cancel()
	require.Error(t, <-done)
	require.NoError(t, conn.Close())
}

func TestNormalize(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"postgresql+asyncpg://user:password@localhost:5432/agentflow": "postgres://user:password@localhost:5432/agentflow",
		"postgresql+psycopg2://u:p%40ss@h/d?ssl=require":              "postgres://u:p%40ss@h/d?sslmode=require",
		"postgres+asyncpg://u@h/d?ssl=false":                          "postgres://u@h/d?sslmode=disable",
		"postgresql+asyncpg://u@h/d?ssl=verify-full&x=1":              "postgres://u@h/d?sslmode=verify-full&x=1",
		"PostgreSQL://u@h/d?ssl=true&sslmode=verify-ca":               "postgres://u@h/d?sslmode=verify-ca",
		"postgres://u@h:1,i:2/d":                                      "postgres://u@h:1,i:2/d",
		"\tpostgres://u@h/d\n":                                        "postgres://u@h/d",
		"postgres:///d?host=/run/postgresql":                          "postgres:///d?host=/run/postgresql",
	} {
		got, err := db.Normalize(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for _, in := range []string{"", "agentflow", "mysql://u:secret@h/d", "sqlite:///secret", "postgres://u:secret%zz@h/d"} {
		_, err := db.Normalize(in)
		require.Error(t, err, in)
		require.NotContains(t, err.Error(), "secret")
	}
}

func column(t *testing.T, pool *sql.DB, query string, args ...any) []string {
	t.Helper()
	rows, err := pool.QueryContext(t.Context(), query, args...)
	require.NoError(t, err, query)
	defer func() { require.NoError(t, rows.Close()) }()
	var list []string
	for rows.Next() {
		var s string
		require.NoError(t, rows.Scan(&s))
		list = append(list, s)
	}
	require.NoError(t, rows.Err())
	return list
}
