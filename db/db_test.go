package db_test

import (
	"bytes"
	"context"
	"database/sql"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
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

var update = flag.Bool("update", false, "rewrite schema.sql")

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
	// The last file drops functions, the one before it drops row_counts.
	require.ErrorContains(t, db.Down(t.Context(), database, 2, db.Options{}), "lock timeout")
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

func TestProvision(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	service, err := db.Provision(t.Context(), database, db.Access{})
	require.NoError(t, err)
	again, err := db.Provision(t.Context(), database, db.Access{})
	require.NoError(t, err)
	require.Equal(t, service, again, "the same administrator gives the same login")

	can, err := db.CanBypass(t.Context(), database)
	require.NoError(t, err)
	require.True(t, can)
	can, err = db.CanBypass(t.Context(), service)
	require.NoError(t, err)
	require.False(t, can)

	admin, pool := connect(t, database), connect(t, service)
	fill(t, admin)
	pool.SetMaxOpenConns(1) // the setting is the connection's
	_, err = pool.ExecContext(t.Context(), "set app.tenant_id = 'acme'")
	require.NoError(t, err)
	for _, table := range column(t, admin, "select tablename from pg_tables where schemaname = 'agentflow' order by 1") {
		_, err := pool.ExecContext(t.Context(), "select * from "+table)
		require.ErrorContains(t, err, "permission denied", table)
	}
	// A login of another name, with a password that changes.
	for _, password := range []string{"first's \"%s", "second"} {
		role := "provision_test_login"
		other, err := db.Provision(t.Context(), database, db.Access{Role: role, Password: password})
		require.NoError(t, err)
		require.NoError(t, connect(t, other).PingContext(t.Context()))
	}
	_, err = db.Provision(t.Context(), database, db.Access{Role: mustUser(t, database), Password: "x"})
	require.ErrorContains(t, err, "cannot be the service's")
}

func mustUser(t *testing.T, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	return u.User.Username()
}

// An owner who is no superuser can do all of it.
func TestOwnerWithoutSuperpowers(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	root := connect(t, database)
	const owner = "plain_owner_test"
	for _, s := range []string{
		"create role " + owner + " login password 'owner' createrole nosuperuser",
		"do $$ begin execute format('grant create on database %I to " + owner + "', current_database()); end $$",
	} {
		_, err := root.ExecContext(t.Context(), s)
		require.NoError(t, err)
	}
	// Roles that another made can be given only by who administers them: a fresh server has none.
	_, err := root.ExecContext(t.Context(), `
		do $$ begin create role agentflow_tenant; exception when duplicate_object then null; end $$;
		do $$ begin create role agentflow_platform; exception when duplicate_object then null; end $$;
		grant agentflow_tenant, agentflow_platform to `+owner+` with admin option`)
	require.NoError(t, err)
	u, err := url.Parse(database)
	require.NoError(t, err)
	u.User = url.UserPassword(owner, "owner")
	require.NoError(t, db.Migrate(t.Context(), u.String(), db.Options{}))
	_, err = db.Provision(t.Context(), u.String(), db.Access{Role: "plain_owner_service"})
	require.NoError(t, err)

	// Forced row level security holds for the owner too.
	pool := connect(t, u.String())
	_, err = pool.ExecContext(t.Context(), "set role none; select * from tenants")
	require.NoError(t, err, "a member of agentflow_platform sees what that role sees")
	require.NoError(t, db.Down(t.Context(), u.String(), -1, db.Options{}))
}

// No table lacks a policy, and all of them bind their owner too.
func TestEveryTableHasAPolicy(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	pool := connect(t, database)
	_, err := pool.ExecContext(t.Context(), "select create_event_partitions('2026-01-01', '2026-01-03')")
	require.NoError(t, err)
	require.Empty(t, column(t, pool, `
		select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and c.relkind in ('r', 'p', 'f', 'm', 'v')
		  and c.relname <> 'schema_migrations' -- the names of files
		  and (not c.relrowsecurity or not c.relforcerowsecurity
		       or not exists (select from pg_policy p where p.polrelid = c.oid))`))
	// Every policy but the platform's asks for the tenant.
	require.Empty(t, column(t, pool, `
		select c.relname || '.' || p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
		join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and pg_get_expr(p.polqual, p.polrelid) not like '%current_tenant()%'
		  and p.polroles <> array['agentflow_platform'::regrole::oid]`))
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

// schema.sql is what the migrations give, for people to read; this holds it to that.
func TestSchemaFile(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	got := describe(t, connect(t, database))
	if *update {
		require.NoError(t, os.WriteFile("schema.sql", []byte(got), 0o600))
	}
	want, err := os.ReadFile("schema.sql")
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run go test ./db -run TestSchemaFile -update")
}

func TestEveryMigrationHasADown(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		text, err := os.ReadFile(filepath.Join("migrations", name))
		require.NoError(t, err)
		up, down, ok := strings.Cut(string(text), "-- migrate:down")
		require.True(t, ok, name)
		require.Contains(t, up, "-- migrate:up", name)
		require.NotEmpty(t, strings.TrimSpace(down), name)
	}
	require.True(t, slices.IsSorted(files(t)))
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

// describe renders the schema from Postgres's own catalog: the same text from every version.
func describe(t *testing.T, pool *sql.DB) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("-- What the migrations give. Written by a test; do not edit.\n")
	tables := column(t, pool, `
		select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and c.relkind in ('r', 'p')
		  and c.relname !~ '^execution_events_[0-9]+$' order by 1`)
	for _, table := range tables {
		fmt.Fprintf(&b, "\ncreate table %s (\n", table)
		lines := column(t, pool, `
			select format('    %I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
			  case when a.attnotnull then ' not null' else '' end,
			  case when a.attgenerated = 's' then ' generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') stored'
			       when d.adbin is not null then ' default ' || pg_get_expr(d.adbin, d.adrelid) else '' end)
			from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
			where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum`, table)
		lines = append(lines, column(t, pool, `
			select format('    constraint %I %s', conname, pg_get_constraintdef(oid)) from pg_constraint
			where conrelid = $1::regclass and contype <> 'n' order by conname`, table)...)
		b.WriteString(strings.Join(lines, ",\n"))
		b.WriteString("\n)")
		for _, s := range column(t, pool, `
			select coalesce(' partition by ' || pg_get_partkeydef(c.oid), '')
			  || case when c.relispartition then ' partition of ' || (select inhparent::regclass::text from pg_inherits where inhrelid = c.oid)
			     || ' ' || pg_get_expr(c.relpartbound, c.oid) else '' end
			from pg_class c where c.oid = $1::regclass`, table) {
			b.WriteString(s)
		}
		b.WriteString(";\n")
		for _, s := range column(t, pool, `
			select pg_get_indexdef(i.indexrelid) from pg_index i
			where i.indrelid = $1::regclass and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
			order by i.indexrelid::regclass::text`, table) {
			fmt.Fprintf(&b, "%s;\n", s)
		}
		for _, s := range column(t, pool, `
			select case when relrowsecurity then format('alter table %I enable row level security;', relname) else '' end
			  || case when relforcerowsecurity then format(E'\nalter table %I force row level security;', relname) else '' end
			from pg_class where oid = $1::regclass and relrowsecurity`, table) {
			fmt.Fprintf(&b, "%s\n", s)
		}
		for _, s := range column(t, pool, `
			select format('create policy %I on %I to %s using (%s)%s;', p.polname, $1::text,
			  (select string_agg(case r when 0 then 'public' else r::regrole::text end, ', ' order by r) from unnest(p.polroles) r),
			  pg_get_expr(p.polqual, p.polrelid), coalesce(' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''))
			from pg_policy p where p.polrelid = $1::regclass order by p.polname`, table) {
			fmt.Fprintf(&b, "%s\n", s)
		}
		for _, s := range column(t, pool, `
			select format('grant %s on %I to %s;', string_agg(lower(privilege_type), ', ' order by privilege_type), $1::text, grantee)
			from information_schema.role_table_grants
			where table_schema = 'agentflow' and table_name = $1 and grantee like 'agentflow%'
			group by grantee order by grantee`, table) {
			fmt.Fprintf(&b, "%s\n", s)
		}
	}
	for _, s := range column(t, pool, `
		select pg_get_functiondef(p.oid) || E'-- execute: ' ||
		  (select coalesce(string_agg(case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ' order by a.grantee::regrole::text), '')
		   from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner) ||
		  case when pg_get_userbyid(p.proowner) like 'agentflow%' then E'\n-- owner: ' || pg_get_userbyid(p.proowner) else '' end
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'agentflow' order by p.proname`) {
		fmt.Fprintf(&b, "\n%s\n", s)
	}
	for _, s := range column(t, pool, "select version from schema_migrations order by 1") {
		fmt.Fprintf(&b, "\n-- migration %s", s)
	}
	b.WriteString("\n")
	return b.String()
}
