package source

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// dbBench is a bench with a Postgres database of its own and a connection to look behind the scenes.
func dbBench(t *testing.T, adjust ...func(*Config)) (*bench, *pgx.Conn, workflow.Source) {
	t.Helper()
	dsn := localtest.Postgres(t)
	b := newBench(t, map[string]string{"TENANT_ACME_DB": dsn}, adjust...)
	conn, err := pgx.Connect(t.Context(), dsn)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close(context.Background())) })
	return b, conn, makeSource("db", "connection_string_env", "TENANT_ACME_DB")
}

func execute(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	_, err := conn.Exec(t.Context(), sql)
	require.NoError(t, err)
}

func TestPostgresValues(t *testing.T) {
	b, conn, src := dbBench(t)
	// The role's own settings must not change what values look like.
	execute(t, conn, `do $$ begin execute format('alter database %I set datestyle = ''German''', current_database());
		execute format('alter database %I set timezone = ''Asia/Tokyo''', current_database());
		execute format('alter database %I set bytea_output = ''escape''', current_database()); end $$`)
	execute(t, conn, `create type mood as enum ('sad','happy'); create domain small as int check (value < 100); create type pair as (a int, b text)`)
	num := func(s string) json.Number { return json.Number(s) }
	for expression, want := range map[string]any{
		"null":                                nil,
		"true":                                true,
		"false":                               false,
		"1::int2":                             num("1"),
		"2147483647":                          num("2147483647"),
		"9223372036854775807":                 num("9223372036854775807"),
		"123456789012345678901234567890.1230": num("123456789012345678901234567890.1230"),
		"'NaN'::numeric":                      "NaN",
		"0.1::float8":                         num("0.1"),
		"1e300::float8":                       num("1e+300"),
		"'Infinity'::float8":                  "Infinity",
		"'-Infinity'::float4":                 "-Infinity",
		"'x'::text":                           "x",
		"'é'::varchar(3)":                     "é",
		"'ab'::char(3)":                       "ab ",
		`'\x00ff10'::bytea`:                   "AP8Q",
		"'2025-01-31'::date":                  "2025-01-31",
		"'2025-01-31 12:00:00.123456'::timestamp":                    "2025-01-31T12:00:00.123456Z",
		"'2025-01-31 12:00:00+02'::timestamptz":                      "2025-01-31T10:00:00Z",
		"'infinity'::timestamptz":                                    "infinity",
		"'12:30'::time":                                              "12:30:00",
		"'12:30+05:30'::timetz":                                      "12:30:00+05:30",
		"'1 day 2 hours 3.5 seconds'::interval":                      "P1DT2H3.5S",
		"'-1 mon'::interval":                                         "P-1M",
		`'{"a": [1, 2.50, null], "n": 12345678901234567890}'::jsonb`: map[string]any{"a": []any{num("1"), num("2.50"), nil}, "n": num("12345678901234567890")},
		`'[1]'::json`:                                                []any{num("1")},
		`'null'::jsonb`:                                              nil,
		"'c0ffee00-0000-4000-8000-000000000001'::uuid":               "c0ffee00-0000-4000-8000-000000000001",
		"array[1,2,null]":                                            []any{num("1"), num("2"), nil},
		"array[[1,2],[3,4]]":                                         []any{[]any{num("1"), num("2")}, []any{num("3"), num("4")}},
		"array[]::int[]":                                             []any{},
		"'[0:1]={5,6}'::int[]":                                       []any{num("5"), num("6")},
		`array['a,b','c"d','e\f','NULL',null,'','{}']`:               []any{"a,b", `c"d`, `e\f`, "NULL", nil, "", "{}"},
		"array['2025-01-31 12:00:00+00'::timestamptz]":               []any{"2025-01-31T12:00:00Z"},
		`array['{"a":1}'::jsonb]`:                                    []any{map[string]any{"a": num("1")}},
		`array['\x01'::bytea]`:                                       []any{"AQ=="},
		"array[true,false]":                                          []any{true, false},
		"array['(1,1),(0,0)'::box]":                                  []any{"(1,1),(0,0)"},
		"'happy'::mood":                                              "happy",
		"5::small":                                                   num("5"),
		"row(1,'x')::pair":                                           "(1,x)",
		"int4range(1,5)":                                             "[1,5)",
		"'10.0.0.0/8'::cidr":                                         "10.0.0.0/8",
		"'10.0.0.1'::inet":                                           "10.0.0.1",
		"'08:00:2b:01:02:03'::macaddr":                               "08:00:2b:01:02:03",
		"12.34::money":                                               "$12.34",
		"b'101'":                                                     "101",
		"'(1,2)'::point":                                             "(1,2)",
		"to_tsvector('simple','a b')":                                "'a':1 'b':2",
		"'<a/>'::xml":                                                "<a/>",
		"'pg_class'::regclass":                                       "pg_class",
		"42::oid":                                                    num("42"),
	} {
		rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select " + expression + " as v"})
		require.NoError(t, err, expression)
		require.Len(t, rows, 1)
		require.Equal(t, want, rows[0]["v"], expression)
		_ = toJSON(t, rows) // and it is JSON
	}
	rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1 as id, 2 as id, 3 as id, 4"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"id": num("1"), "id_2": num("2"), "id_3": num("3"), "?column?": num("4")}, rows[0])
}

func TestPostgresParameters(t *testing.T) {
	b, conn, src := dbBench(t)
	execute(t, conn, `create table t (id int primary key, name text, at timestamptz, tags text[], doc jsonb, price numeric, ok bool)`)
	execute(t, conn, `insert into t select n, 'name ' || n, '2025-01-01'::timestamptz + n * interval '1 day', array['a' || n], jsonb_build_object('n', n), n / 4.0, n % 2 = 0 from generate_series(1, 300) n`)
	vals := values("id", json.Number("5"), "text_id", "5", "ids", []any{json.Number("1"), json.Number("3")}, "name", "name 7", "price", json.Number("1.250"),
		"yes", true, "doc", map[string]any{"n": json.Number("9")}, "list", []any{json.Number("9")}, "tags", []any{"a3", `x"\,{}`}, "day", "2025-01-04", "none", nil)
	for template, want := range map[string]string{
		"select id from t where id = {id}":                                      "5",
		"select id from t where id = {text_id}":                                 "5",
		"select id from t where id = '{id}'":                                    "5",
		"select id from t where id = any({ids}) order by id":                    "1 3",
		"select id from t where name = {name}":                                  "7",
		"select id from t where name like '%{name}' order by id":                "7",
		"select id from t where price = {price}":                                "5",
		"select id from t where ok = {yes} order by id limit {id}":              "2 4 6 8 10",
		"select id from t where doc = {doc}":                                    "9",
		"select id from t where doc @> {doc}":                                   "9",
		"select id from t where doc->'n' = {list}::jsonb->0":                    "9",
		"select id from t where tags && {tags}":                                 "3",
		"select id from t where at = {day}::timestamptz":                        "3",
		"select id from t where at = timestamptz '{day}'":                       "3",
		"select id from t where at < date '{day}' order by id":                  "1 2",
		"select id from t where {none}::int is null and id < 2":                 "1",
		"select id from t where id in (select unnest({ids}::int[])) order by 1": "1 3",
		"with x as (select {id}::int as y) select y as id from x":               "5",
		"values ({id}::int)":                                                    "5",
		"table t limit 1":                                                       "1",
	} {
		rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Template: template, Values: vals})
		require.NoError(t, err, template)
		var got []string
		for _, row := range rows {
			id, ok := row["id"]
			if !ok {
				id = row["column1"]
			}
			got = append(got, string(id.(json.Number)))
		}
		require.Equal(t, want, strings.Join(got, " "), template)
	}
	rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select * from t"})
	require.NoError(t, err)
	require.Len(t, rows, 100, "the default limit")
	rows, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select * from t order by id desc", Limit: 2})
	require.NoError(t, err)
	require.Len(t, rows, 2)
	require.Equal(t, json.Number("300"), rows[0]["id"])
	rows, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select * from t where false"})
	require.NoError(t, err)
	require.Equal(t, []map[string]any{}, rows, "no rows are an empty list, not null")
	for _, other := range []string{"explain select * from t", "show server_version", "EXPLAIN (ANALYZE) SELECT 1"} {
		rows, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: other})
		require.NoError(t, err, other)
		require.NotEmpty(t, rows)
	}
}

func TestPostgresStopsAtTheLimit(t *testing.T) {
	b, _, src := dbBench(t)
	// A million rows of a kilobyte would be over every cap if the server sent them.
	rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select repeat('x', 1000) from generate_series(1, 1000000)", Limit: 3})
	require.NoError(t, err)
	require.Len(t, rows, 3)
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select repeat('x', 100000) from generate_series(1, 100)", Limit: 100})
	requireClass(t, ClassTooLarge, err)
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select repeat('x', 20000000)"})
	requireClass(t, ClassTooLarge, err)
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
	require.NoError(t, err, "the pool survives")
}

func TestPostgresErrors(t *testing.T) {
	b, conn, src := dbBench(t)
	execute(t, conn, "create table secret_table (id int)")
	execute(t, conn, "drop role if exists narrow")
	execute(t, conn, "create role narrow login password 'planted-db-password'")
	t.Cleanup(func() { _, _ = conn.Exec(context.Background(), "drop role narrow") })
	_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select pg_sleep(300)", Timeout: 50 * time.Millisecond})
	requireClass(t, ClassTimeout, err)
	for query, class := range map[string]Class{
		"select * from nowhere": ClassInvalid,
		"select 1 +":            ClassInvalid,
		"with x as (delete from secret_table returning *) select * from x": ClassInvalid,
		"select * into copied from secret_table":                           ClassInvalid,
		"select nextval('s')":                                              ClassInvalid,
		"select * from secret_table for update":                            ClassInvalid,
		"select set_config('transaction_read_only','off',true)":            ClassInvalid,
	} {
		_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: query})
		require.Error(t, err, query)
		requireClass(t, class, err)
	}
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Template: "select {x}", Values: values("x", "a\x00b")})
	requireClass(t, ClassInvalid, err)

	// A setting made by one statement is gone for the next one.
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select set_config('search_path','nowhere',false), set_config('role','narrow',false)"})
	require.NoError(t, err)
	rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select current_setting('search_path') as p, current_user as u"})
	require.NoError(t, err)
	require.NotEqual(t, "nowhere", rows[0]["p"])
	require.NotEqual(t, "narrow", rows[0]["u"])

	u, err := url.Parse(b.env["TENANT_ACME_DB"])
	require.NoError(t, err)
	u.User = url.UserPassword("narrow", "planted-db-password")
	b.env["TENANT_ACME_NARROW"] = u.String()
	narrow := makeSource("db", "dsn_env", "TENANT_ACME_NARROW")
	_, err = b.Query(t.Context(), caller(), narrow, QueryRequest{Query: "select * from secret_table"})
	e := classified(t, ClassAuth, err)
	require.Equal(t, "42501", e.Code)
}

func TestPostgresConnections(t *testing.T) {
	b, _, src := dbBench(t)
	good := b.env["TENANT_ACME_DB"]
	change := func(f func(u *url.URL)) string {
		u, err := url.Parse(good)
		require.NoError(t, err)
		f(u)
		return u.String()
	}
	for name, test := range map[string]struct {
		dsn   string
		class Class
		text  string
	}{
		"no URL":         {"host=127.0.0.1 user=planted-user", ClassInvalid, "must start with"},
		"other database": {"redis://planted-user@127.0.0.1", ClassInvalid, "redis"},
		"no host":        {"postgres:///x", ClassInvalid, "one host"},
		"socket":         {"postgres://planted-user@/x?host=/tmp", ClassInvalid, "host"},
		"two hosts":      {"postgres://u:p@127.0.0.1:1,127.0.0.1:2/x", ClassInvalid, ""},
		"service":        {"postgres://planted-user@127.0.0.1/x?service=s", ClassInvalid, "service"},
		"no user":        {"postgres://127.0.0.1/x", ClassInvalid, "user"},
		"port closed":    {change(func(u *url.URL) { u.Host = "127.0.0.1:1" }), ClassNetwork, "connection"},
		"private":        {change(func(u *url.URL) { u.Host = "10.1.2.3" }), ClassEgress, "private"},
		"metadata":       {change(func(u *url.URL) { u.Host = "169.254.169.254:80" }), ClassEgress, "metadata"},
		"no such name":   {change(func(u *url.URL) { u.Host = "no-such-host.invalid" }), ClassNetwork, "resolve"},
		"no database":    {change(func(u *url.URL) { u.Path = "/nowhere" }), ClassInvalid, "nowhere"},
	} {
		b.env["TENANT_ACME_X"] = test.dsn
		src := makeSource("db", "connection_string_env", "TENANT_ACME_X")
		src.Config["name"] = name
		_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
		require.Error(t, err, name)
		requireClass(t, test.class, err)
		require.ErrorContains(t, err, test.text, name)
		require.NotContains(t, err.Error(), "planted", name)
	}
	for _, scheme := range []string{"postgresql+asyncpg://", "postgresql://", "POSTGRES://", "postgresql+psycopg2://"} {
		b.env["TENANT_ACME_DB"] = scheme + strings.SplitN(good, "://", 2)[1]
		_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
		require.NoError(t, err, scheme)
	}
	// libpq's variables and files belong to the platform.
	full, err := postgresDSN("postgres://u@h.example")
	require.NoError(t, err)
	t.Setenv("PGPASSWORD", "platform-password")
	t.Setenv("PGUSER", "platform-user")
	t.Setenv("PGDATABASE", "platform-db")
	t.Setenv("PGSSLROOTCERT", "/platform/cert")
	t.Setenv("PGSERVICE", "")
	t.Setenv("PGOPTIONS", "-c platform=1")
	config, err := pgx.ParseConfig(full)
	require.NoError(t, err)
	require.Equal(t, "u", config.User)
	require.Empty(t, config.Password)
	require.Equal(t, "u", config.Database)
	require.NotContains(t, fmt.Sprint(config.RuntimeParams), "platform")
}

func TestPostgresPools(t *testing.T) {
	b, conn, src := dbBench(t)
	src.Config["pool_size"], src.Config["max_overflow"], src.Config["pool_timeout"] = json.Number("2"), json.Number("1"), json.Number("3")
	execute(t, conn, "select pg_advisory_lock(42)")
	blocked := func() error {
		_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select pg_advisory_xact_lock_shared(42)"})
		return err
	}
	var holders sync.WaitGroup
	for range 3 {
		holders.Go(func() { require.NoError(t, blocked()) })
	}
	require.Eventually(t, func() bool {
		var waiting int
		err := conn.QueryRow(t.Context(), "select count(*) from pg_locks where locktype = 'advisory' and not granted").Scan(&waiting)
		return err == nil && waiting == 3
	}, patience, 10*time.Millisecond, "pool_size and max_overflow together are three")
	require.Equal(t, "pool_timeout", classified(t, ClassTimeout, blocked()).Code, "a fourth waits in vain")
	execute(t, conn, "select pg_advisory_unlock(42)")
	holders.Wait()
	require.Len(t, b.pools.pools, 1)

	other := caller()
	other.Tenant = "other"
	b.env["TENANT_OTHER_DB"] = b.env["TENANT_ACME_DB"]
	_, err := b.Query(t.Context(), other, makeSource("db", "connection_string_env", "TENANT_OTHER_DB"), QueryRequest{Query: "select 1"})
	require.NoError(t, err)
	require.Len(t, b.pools.pools, 2, "tenants share no pool, even for the same database")

	var open int
	require.NoError(t, conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = 'agentflow' and datname = current_database()").Scan(&open))
	require.LessOrEqual(t, open, 4)
	require.Positive(t, open)
}

func TestATenantHoldsAFewPoolsOnly(t *testing.T) {
	p := newPoolCache(time.Hour)
	open := func() (sqlPool, error) { return &mysqlPool{db: sql.OpenDB(nil)}, nil }
	for i := range maxTenantPools {
		_, _, err := p.get("a", poolKeyOf("a", strconv.Itoa(i), "", poolKnobs{}), open)
		require.NoError(t, err)
	}
	_, _, err := p.get("a", poolKeyOf("a", "one more", "", poolKnobs{}), open)
	require.Equal(t, ClassRefused, ClassOf(err))
	_, _, err = p.get("a", poolKeyOf("a", "7", "", poolKnobs{}), open)
	require.NoError(t, err, "what is open stays usable")
	_, _, err = p.get("b", poolKeyOf("b", "one more", "", poolKnobs{}), open)
	require.NoError(t, err, "another tenant is not touched")
	require.NoError(t, p.close())
}

func TestIdlePoolsAreClosed(t *testing.T) {
	b, conn, src := dbBench(t, func(c *Config) { c.IdlePool = 50 * time.Millisecond })
	_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select pg_sleep(0.2)"})
	require.NoError(t, err, "a pool in use is not idle, however long that takes")
	require.Eventually(t, func() bool {
		b.pools.mu.Lock()
		defer b.pools.mu.Unlock()
		return len(b.pools.pools) == 0 && b.pools.timer == nil
	}, patience, 10*time.Millisecond)
	require.Eventually(t, func() bool {
		var open int
		err := conn.QueryRow(t.Context(), "select count(*) from pg_stat_activity where application_name = 'agentflow' and datname = current_database()").Scan(&open)
		return err == nil && open == 0
	}, patience, 10*time.Millisecond)
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
	require.NoError(t, err, "and opened again")
	require.NoError(t, b.Close())
	_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
	requireClass(t, ClassCanceled, err)
}

func TestACanceledQueryFreesItsConnection(t *testing.T) {
	b, conn, src := dbBench(t)
	src.Config["pool_size"], src.Config["max_overflow"] = json.Number("1"), json.Number("0")
	running := func() int {
		var n int
		require.NoError(t, conn.QueryRow(t.Context(), `select count(*) from pg_stat_activity
			where datname = current_database() and state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid()`).Scan(&n))
		return n
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := b.Query(ctx, caller(), src, QueryRequest{Query: "select pg_sleep(300)"})
		done <- err
	}()
	require.Eventually(t, func() bool { return running() == 1 }, patience, 10*time.Millisecond)
	cancel()
	requireClass(t, ClassCanceled, <-done)
	require.Eventually(t, func() bool { return running() == 0 }, patience, 10*time.Millisecond, "the server works on it no more")
	_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
	require.NoError(t, err)
}
