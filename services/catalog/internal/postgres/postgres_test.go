package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
)

const (
	waitFor = 30 * time.Second
	tick    = 5 * time.Millisecond
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

// open makes a migrated database and a store with the service's login, and one with the owner's.
func open(t testing.TB, adminURL string, c Config) (service, owner *Store) {
	t.Helper()
	require.NoError(t, db.Migrate(t.Context(), adminURL, db.Options{}))
	url, err := db.Provision(t.Context(), adminURL, db.Access{})
	require.NoError(t, err)
	if c.PoolSize == 0 {
		c.PoolSize = 5
	}
	c.URL = url
	service, err = Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(service.Close)
	owner, err = Open(t.Context(), Config{URL: adminURL, PoolSize: 2})
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	return service, owner
}

// seed gives two tenants a workflow each, and a source.
func seed(t testing.TB, owner *Store) {
	t.Helper()
	for i, tenant := range []string{"acme", "beta"} {
		for _, sql := range []string{
			`insert into tenants values ('%[1]s', '%[1]s', 'active', null, 1, now(), now(), 1, %[2]d)`,
			`insert into api_keys values ('key_%[1]s', '%[1]s', 'k', 'h%[1]s', 'p', '{a}', 'active', null, 1, now(), null, null, null, null, 1, 2)`,
			`insert into workflows values ('wf_%[1]s', '%[1]s', 'w', 'd', 'draft', 1, '{}', now(), 'me', now(), 'me', null, null, 'w d', '{w}', 1, 3)`,
			`insert into workflow_versions values ('wf_%[1]s', 1, '%[1]s', 'w', 'd', 'draft', '{}', now(), 'me', 3)`,
			`insert into workflow_sources values ('%[1]s', 's', 'wf_%[1]s')`,
			`insert into sources values ('%[1]s', 's', 'llm', '', '{}', 'active', 1, now(), 'me', now(), 'me', null, null, 1, 4)`,
			`insert into executions (id, tenant_id, workflow_name, spec_hash, status, tags, actor, request_id, created_at, tokens_used, cost, nodes_run, nodes, partition, first_seq, last_seq)
			 values ('exec_%[1]s', '%[1]s', 'w', '', 'PENDING', '{t}', '', '', now(), 1, 0.25, 0, '[]', 0, 1, 1)`,
			`insert into execution_tags values ('%[1]s', 't', now(), 'exec_%[1]s')`,
			`insert into execution_events values (%[2]d, 1, '%[1]s', 'exec_%[1]s', 0, 'c', now(), '{}')`,
			`insert into audit_log values ('cat_%[1]s', %[2]d, now(), '%[1]s', 'me', 'tenant_created', 'tenant', '%[1]s', '', 'c', null, '{}', '')`,
			`insert into command_refusals values ('c%[1]s', '%[1]s', now(), '{}')`,
			`insert into row_counts values ('%[1]s', 'workflow', 'draft', 0, 1)`,
		} {
			_, err := owner.pool.Exec(t.Context(), fmt.Sprintf(sql, tenant, i+1))
			require.NoError(t, err, sql)
		}
	}
}

// tenantTables are all tables with a tenant's rows, by the column that names it.
func tenantTables(t testing.TB, owner *Store) map[string]string {
	t.Helper()
	rows, err := owner.pool.Query(t.Context(), `
		select c.relname, case when exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') then 'tenant_id' else 'id' end
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and c.relkind in ('r', 'p') and not c.relispartition and c.relname not in ('schema_migrations', 'projection_checkpoints')`)
	require.NoError(t, err)
	tables := map[string]string{}
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		tables[table] = column
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(tables), 12)
	return tables
}

// The third layer alone: SQL that names no tenant sees one tenant's rows, and without the setting
// it is an error.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{PoolSize: 1})
	seed(t, owner)
	tables := tenantTables(t, owner)
	for table, column := range tables {
		require.NoError(t, service.Tenant(t.Context(), "beta", func(tx *Tx) error {
			rows, err := tx.tx.Query(t.Context(), "select distinct "+column+" from "+table)
			if err != nil {
				return err
			}
			tenants, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.Equal(t, []string{"beta"}, tenants, table)
			return err
		}))
		require.NoError(t, service.Platform(t.Context(), func(tx *Tx) error {
			var n int
			err := tx.tx.QueryRow(t.Context(), "select count(distinct "+column+") from "+table).Scan(&n)
			require.Equal(t, 2, n, table)
			return err
		}))
	}
	// The one connection has served a tenant by now: nothing of that is left on it.
	for table := range tables {
		for _, become := range []string{"select 1", "set role agentflow_tenant"} {
			conn, err := service.pool.Acquire(t.Context())
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), become)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), "select * from "+table)
			require.Error(t, err, "%s after %q", table, become)
			_, err = conn.Exec(t.Context(), "reset role")
			require.NoError(t, err)
			conn.Release()
		}
	}
	// Writing past the policy fails in every way.
	attacks := map[string]string{
		"a row of another":           "insert into workflow_sources values ('acme', 'x', 'wf_beta')",
		"a row given to another":     "update workflows set tenant_id = 'acme'",
		"the policy":                 "drop policy tenant on workflows",
		"row level security":         "alter table workflows disable row level security",
		"forcing it":                 "alter table workflows no force row level security",
		"passing by it":              "set row_security = off; select * from workflows",
		"the owner's role":           "set role postgres",
		"a right of its own":         "alter role agentflow_service bypassrls",
		"the audit":                  "update audit_log set actor = 'nobody'",
		"deleting the audit":         "delete from audit_log",
		"truncating":                 "truncate workflows",
		"the checkpoints":            "select * from projection_checkpoints",
		"writing executions":         "update executions set status = 'FAILED'",
		"making a table":             "create table agentflow.x (y int)",
		"making a function":          "create function current_tenant() returns text language sql as $$ select 'acme' $$",
		"the partitions of the past": "select drop_event_partition('2020-01-01')",
		"a partition directly":       "select * from execution_events_default",
		"reading the server's files": "select pg_read_file('PG_VERSION')",
		"reading passwords":          "select * from pg_authid",
	}
	for what, sql := range attacks {
		err := service.Tenant(t.Context(), "beta", func(tx *Tx) error {
			_, err := tx.tx.Exec(t.Context(), sql)
			return err
		})
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, what)
		require.Contains(t, []string{"42501", "42P17"}, pg.Code, "%s: %s", what, pg.Message)
	}
	// What affects no row of others, does not.
	require.NoError(t, service.Tenant(t.Context(), "beta", func(tx *Tx) error {
		tag, err := tx.tx.Exec(t.Context(), "update workflows set name = 'mine' where tenant_id = 'acme' or id = 'wf_acme'")
		require.Zero(t, tag.RowsAffected())
		return err
	}))
	require.Error(t, service.Tenant(t.Context(), "", func(*Tx) error { return nil }))
	require.Error(t, service.Tenant(t.Context(), "*", func(*Tx) error { return nil }))
	require.Error(t, service.Tenant(t.Context(), "a'; select 1; --", func(*Tx) error { return nil }))
}

func TestLoginCannotBypass(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{})
	var super, bypass, inherit, owns bool
	require.NoError(t, service.pool.QueryRow(t.Context(), `
		select r.rolsuper, r.rolbypassrls, r.rolinherit, exists (select from pg_class where relowner = r.oid)
		from pg_roles r where rolname = current_user`).Scan(&super, &bypass, &inherit, &owns))
	require.False(t, super || bypass || inherit || owns)
	// Nor can the roles that it may become.
	var n int
	require.NoError(t, owner.pool.QueryRow(t.Context(), `
		select count(*) from pg_roles where rolname like 'agentflow%' and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb)`).Scan(&n))
	require.Zero(t, n)
}

// No list reads a table whole, with as many rows as make it tempting.
func TestPlans(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{})
	fillForPlans(t, owner)
	since := protocol.At(time.Now().Add(-time.Hour))
	plans := recordPlans(t, service, func(ctx context.Context) {
		for _, page := range []protocol.Page{{}, {Skip: 200, Limit: 10}, {Cursor: encodeCursor(position{time.Now(), "z"})}} {
			for _, status := range []string{"", protocol.WorkflowPublished, protocol.WorkflowDeleted} {
				_, err := service.ListWorkflows(ctx, protocol.ListWorkflowsRequest{Tenant: "t7", Page: page, Status: status})
				require.NoError(t, err)
			}
			_, err := service.ListWorkflows(ctx, protocol.ListWorkflowsRequest{Tenant: "t7", Page: page, Search: "needle"})
			require.NoError(t, err)
			for _, kind := range []string{"", "db"} {
				_, err = service.ListSources(ctx, protocol.ListSourcesRequest{Tenant: "t7", Page: page, Kind: kind})
				require.NoError(t, err)
			}
			_, err = service.ListKeys(ctx, protocol.ListKeysRequest{Tenant: "t7", Page: page})
			require.NoError(t, err)
			_, err = service.ListTenants(ctx, protocol.ListTenantsRequest{Page: protocol.Page{Cursor: page.Cursor, Limit: 10}})
			require.NoError(t, err)
			for _, req := range []protocol.ListExecutionsRequest{
				{}, {Status: "FAILED"}, {WorkflowID: "wf_700"}, {Tag: "rare"}, {Since: since}, {WorkflowID: "wf_700", Status: "FAILED"},
			} {
				req.Tenant, req.Page = "t7", page
				_, err := service.ListExecutions(ctx, req)
				require.NoError(t, err)
			}
			for _, req := range []protocol.ListAuditRequest{{}, {Actor: "a1"}, {ID: "wf_700"}, {Since: since}} {
				req.Tenant, req.Page = "t7", page
				_, err := service.ListAudit(ctx, req)
				require.NoError(t, err)
			}
			_, err = service.ListWorkflowVersions(ctx, protocol.ListWorkflowVersionsRequest{Tenant: "t7", ID: "wf_700", Page: protocol.Page{Limit: 10}})
			require.NoError(t, err)
		}
		_, err := service.GetWorkflow(ctx, "t7", "wf_700", 0)
		require.NoError(t, err)
		_, err = service.GetExecution(ctx, "t7", "exec_700")
		require.NoError(t, err)
		_, err = service.GetExecutionCommits(ctx, protocol.GetExecutionCommitsRequest{Tenant: "t7", ID: "exec_700"}, "EXECUTIONS_0")
		require.NoError(t, err)
		_, err = service.GetStats(ctx, protocol.GetStatsRequest{Tenant: "t7", WorkflowID: "wf_700"})
		require.NoError(t, err)
		for _, kind := range []string{"key", "workflow", "source", "execution", "key_hash"} {
			_, err = service.Exists(ctx, "t7", kind, "nothing")
			require.NoError(t, err)
		}
		_, _, err = service.Needed(ctx, 0, "EXECUTIONS_0")
		require.NoError(t, err)
	})
	require.Greater(t, len(plans), 30)
	for sql, plan := range plans {
		// The first page of all tenants reads them all, to count them. Statistics sum over a tenant.
		if strings.Contains(sql, "count(*) from tenants") {
			continue
		}
		for _, table := range []string{"workflows", "workflow_versions", "sources", "executions", "execution_tags", "execution_events", "audit_log", "api_keys"} {
			require.NotRegexp(t, `Seq Scan on `+table+`\b`, plan, sql)
		}
	}
	// What search_workflows does inside, as the role that it belongs to.
	require.NoError(t, service.Platform(t.Context(), func(tx *Tx) error {
		if _, err := tx.tx.Exec(t.Context(), "set local app.tenant_id = 't7'"); err != nil {
			return err
		}
		rows, err := tx.tx.Query(t.Context(), `
			explain (costs off) select w.id from workflows w where w.tenant_id = current_tenant() and w.deleted_at is null
				and w.search_grams @> $1 and w.search_text like $2`, Grams("needle"), pattern("needle"))
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.Contains(t, strings.Join(lines, "\n"), "workflows_search", "in spite of the row level policy")
		return err
	}))
	l, err := service.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: "t7", Search: " NEEDLE "})
	require.NoError(t, err)
	require.EqualValues(t, 4, l.Total)
	require.Len(t, l.Items, 4)
	l, err = service.ListWorkflows(t.Context(), protocol.ListWorkflowsRequest{Tenant: "t7", Search: "%"})
	require.NoError(t, err)
	require.Zero(t, l.Total)
}

func fillForPlans(t *testing.T, owner *Store) {
	t.Helper()
	for _, sql := range []string{
		`insert into tenants select 't' || i, 't', 'active', null, 1, now(), now(), 1, i from generate_series(1, 500) i`,
		`insert into api_keys select 'key_' || i, 't' || i % 50, 'k', 'h' || i, 'p', '{a}', 'active', null, 1, now(), null, null, null, null, 1, 2 from generate_series(1, 5000) i`,
		`insert into workflows select 'wf_' || i, 't' || case when i % 100 = 0 then 7 else i % 50 end, 'w', 'd', case when i % 3 = 0 then 'published' else 'draft' end, 1, '{}',
			now() - i * interval '1 second', 'me', now(), 'me', null, null,
			case when i % 5000 = 0 then 'a needle in it' else 'hay ' || i end, case when i % 5000 = 0 then '{ee,ed,dl,le,ne}'::text[] else '{ha,ay}' end, 1, i
		 from generate_series(1, 20000) i`,
		`insert into workflow_versions select id, 1, tenant_id, name, description, status, spec, created_at, created_by, last_seq from workflows`,
		`insert into sources select 't' || i % 50, 's' || i, case when i % 2 = 0 then 'llm' else 'db' end, '', '{}', 'active', 1, now() - i * interval '1 second', 'me', now(), 'me', null, null, 1, i
		 from generate_series(1, 10000) i`,
		`insert into executions (id, tenant_id, workflow_id, workflow_version, workflow_name, spec_hash, status, tags, actor, request_id, created_at, completed_at, tokens_used, cost, nodes_run, nodes, partition, first_seq, last_seq)
		 select 'exec_' || i, 't' || case when i % 100 = 0 then 7 else i % 50 end, 'wf_' || i % 2000, 1, 'w', '', case when i % 10 = 0 then 'FAILED' else 'COMPLETED' end, '{}', '', '',
			now() - i * interval '1 second', now(), 1, 0.25, 0, '[]', i % 2, i, i from generate_series(1, 40000) i`,
		`insert into execution_tags select tenant_id, 'rare', created_at, id from executions where last_seq % 100 = 0`,
		`insert into execution_tags select tenant_id, 'common', created_at, id from executions`,
		`insert into execution_events select 0, i, 't' || case when i % 100 = 0 then 7 else i % 50 end, 'exec_' || i, 0, 'c', now(), '{}' from generate_series(1, 20000) i`,
		`insert into audit_log select 'cat_' || i, i, now() - i * interval '1 second', 't' || i % 50, 'a' || i % 20, 'x', 'workflow', 'wf_' || i, '', 'c' || i, null, '{}', '' from generate_series(1, 20000) i`,
		`insert into projection_checkpoints values ('EXECUTIONS_0', 1, now())`,
		`analyze`,
	} {
		_, err := owner.pool.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
}

// planner is a tracer that collects the statements that go by.
type planner struct {
	*tracer
	mu         sync.Mutex
	statements map[string][]any
}

func (p *planner) TraceBatchQuery(ctx context.Context, c *pgx.Conn, q pgx.TraceBatchQueryData) {
	p.tracer.TraceBatchQuery(ctx, c, q)
	if strings.Contains(q.SQL, "set_config") {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.statements[q.SQL] = q.Args
}

// recordPlans runs what calls, and explains every statement that it led to as it was run: with the
// role and the policies of the service.
func recordPlans(t *testing.T, s *Store, calls func(ctx context.Context)) map[string]string {
	t.Helper()
	config := s.pool.Config()
	p := &planner{tracer: &tracer{log: zap.NewNop()}, statements: map[string][]any{}}
	config.ConnConfig.Tracer = p
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	old := s.pool
	s.pool = pool
	calls(t.Context())
	s.pool = old
	plans := map[string]string{}
	for sql, args := range p.statements {
		who := protocol.TenantID("t7")
		if strings.Contains(sql, "projection_checkpoints") || strings.Contains(sql, "from tenants where true") {
			who = platform
		}
		require.NoError(t, s.transact(t.Context(), who, "begin", func(tx *Tx) error {
			// As the service has it, with parameters: then what functions hide is seen too.
			for _, set := range []string{"set local plan_cache_mode = force_custom_plan"} {
				if _, err := tx.tx.Exec(t.Context(), set); err != nil {
					return err
				}
			}
			rows, err := tx.tx.Query(t.Context(), "explain (costs off) "+sql, args...)
			if err != nil {
				return err
			}
			lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
			plans[sql] = strings.Join(lines, "\n")
			return err
		}), sql)
	}
	return plans
}

func TestSearch(t *testing.T) {
	t.Parallel()
	require.Equal(t, "grösse: ein test ß σ", SearchText("GRÖSSE:\tEin", " Test ẞ\x00 Σ"))
	require.Equal(t, []string{"ab", "ba"}, Grams("abab"))
	require.Empty(t, Grams("a"))
	require.Equal(t, `%50\%\_\\%`, pattern(`50%_\`))
	long := SearchText("n", strings.Repeat("é", 100_000))
	require.LessOrEqual(t, len([]rune(long)), searchable+2)
}

func TestStorable(t *testing.T) {
	t.Parallel()
	_, owner := open(t, localtest.Postgres(t), Config{})
	for _, raw := range []string{
		`{}`, `null`, `"x"`, `{"a":"\u0000"}`, `{"\u0000":"\\u0000"}`, `["\ud800\udc00","\ud800","\udc00"]`, `1e400000`, `-1E-999999`, `1e5`, `1.5E+3`,
		strings.Repeat("9", 140_000), strings.Repeat("[", 9000) + strings.Repeat("]", 9000), `{"a":"` + "\xff" + `"}`, `{`, ``, `{"a":1}x`,
		`"` + strings.Repeat(`\"`, 50) + `"`, `{"e":1,"E":2,"x":"1e5"}`,
	} {
		out := JSON(json.RawMessage(raw))
		var back string
		require.NoError(t, owner.pool.QueryRow(t.Context(), "select $1::text::jsonb::text", string(out)).Scan(&back), "%.60s", raw)
		require.Equal(t, string(out), string(JSON(out)), "what is storable stays as it is: %.60s", raw)
	}
	plain := `{"a": [1, 2.50, true, null, "ü \n \u00e9"]}`
	require.Equal(t, plain, string(JSON(json.RawMessage(plain))), "byte for byte")
	for in, want := range map[string]string{"": "0", "1": "1", "-0.50": "-0.50", "1e5": "0", "NaN": "0", "1.": "0", ".5": "0", "0x1": "0"} {
		require.Equal(t, want, Decimal(in), in)
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	p := position{time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), "exec_é/x"}
	got, ok := decodeCursor(encodeCursor(p))
	require.True(t, ok)
	require.Equal(t, p, got)
	for _, bad := range []string{"", "x", "!!!", encodeCursor(position{time.Unix(-1, 0), "x"}), encodeCursor(position{time.Unix(1<<40, 0), "x"}), encodeCursor(position{p.at, "a\x00"})} {
		_, ok := decodeCursor(bad)
		require.False(t, ok, bad)
	}
}

func TestQueriesAreLogged(t *testing.T) {
	t.Parallel()
	core, logs := observer.New(zapcore.DebugLevel)
	service, owner := open(t, localtest.Postgres(t), Config{Log: zap.New(core)})
	seed(t, owner)
	_, err := service.GetWorkflow(t.Context(), "acme", "wf_acme", 0)
	require.NoError(t, err)
	entries := logs.FilterMessage("query").FilterField(zap.String("tenant_id", "acme")).All()
	require.NotEmpty(t, entries)
	fields := entries[len(entries)-1].ContextMap()
	require.Contains(t, fields["sql"], "from workflows")
	require.Contains(t, fields, "took")
	require.NotContains(t, fmt.Sprint(fields), "wf_acme", "arguments are the tenant's")

	require.NoError(t, service.Tenant(t.Context(), "acme", func(tx *Tx) error {
		_, err := tx.tx.Exec(t.Context(), "select pg_sleep($1)", 0.15)
		return err
	}))
	slow := logs.FilterMessage("slow query").All()
	require.Len(t, slow, 1)
	require.Equal(t, zapcore.WarnLevel, slow[0].Level)
	require.NotEmpty(t, logs.FilterMessage("postgres connection opened").All())
}

func gather(t *testing.T, s *Store) map[string]float64 {
	t.Helper()
	reg := prometheus.NewRegistry()
	reg.MustRegister(s.Collector())
	families, err := reg.Gather()
	require.NoError(t, err)
	out := map[string]float64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			name := []string{f.GetName()}
			for _, l := range m.GetLabel() {
				name = append(name, l.GetValue())
			}
			out[strings.Join(name, "/")] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return out
}

// Many more callers than connections: all are served, and every connection comes back.
func TestManyCallersFewConnections(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{PoolSize: 3, Overflow: 2})
	seed(t, owner)
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			tenant := protocol.TenantID([]string{"acme", "beta"}[i%2])
			for range 5 {
				wf, err := service.GetWorkflow(t.Context(), tenant, "wf_"+string(tenant), 0)
				if err != nil || wf.Tenant != tenant {
					t.Errorf("%s: %v %v", tenant, wf.Tenant, err)
				}
				err = service.Tenant(t.Context(), tenant, func(tx *Tx) error {
					_, err := tx.Enter(t.Context(), tenant, protocol.KindWorkflow, "wf_"+string(tenant), strconv.Itoa(i))
					return err
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	figures := gather(t, service)
	require.Zero(t, figures["agentflow_db_pool_connections/in_use"])
	require.LessOrEqual(t, figures["agentflow_db_pool_opened_total"], 5.0)
	require.EqualValues(t, 5, figures["agentflow_db_pool_connections_limit"])
	require.GreaterOrEqual(t, figures["agentflow_db_pool_acquired_total"], 2000.0)
	require.Positive(t, figures["agentflow_db_pool_waited_total"])
	require.Positive(t, figures["agentflow_db_pool_wait_seconds_total"])

	// Whoever gives up, errs, or panics returns its connection too.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := service.GetWorkflow(ctx, "acme", "wf_acme", 0)
	require.Error(t, err)
	require.ErrorIs(t, service.Tenant(t.Context(), "acme", func(*Tx) error { return errBoom }), errBoom)
	require.Panics(t, func() { _ = service.Tenant(t.Context(), "acme", func(*Tx) error { panic("boom") }) })
	require.Eventually(t, func() bool { return gather(t, service)["agentflow_db_pool_connections/in_use"] == 0 }, waitFor, tick)
}

var errBoom = errors.New("boom")

func TestWaitForConnectionEnds(t *testing.T) {
	t.Parallel()
	service, _ := open(t, localtest.Postgres(t), Config{PoolSize: 1, PoolTimeout: 20 * time.Millisecond})
	require.NoError(t, service.Ping(t.Context()))
	require.NoError(t, service.Tenant(t.Context(), "acme", func(*Tx) error {
		_, err := service.Exists(t.Context(), "acme", "workflow", "x")
		require.ErrorIs(t, err, ErrUnavailable)
		require.ErrorContains(t, err, "no connection became free")
		return nil
	}))
	require.EqualValues(t, 1, gather(t, service)["agentflow_db_pool_timeouts_total"])
}

// Postgres goes and comes back under load: no write that was confirmed is lost, what fails in
// between says that it is worth another try, and afterwards everything works.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	server := localtest.PostgresServer(t)
	service, owner := open(t, server.URL(), Config{PoolSize: 5, PoolTimeout: 5 * time.Second})
	// The test's server confirms before it writes, to be fast: not here.
	_, err := owner.pool.Exec(t.Context(), "alter system set synchronous_commit = on")
	require.NoError(t, err)
	_, err = owner.pool.Exec(t.Context(), "alter role all set synchronous_commit = on")
	require.NoError(t, err)
	service.pool.Reset()
	ctx, stop := context.WithCancel(t.Context())
	var (
		mu        sync.Mutex
		confirmed []string
		failures  int
		wg        sync.WaitGroup
	)
	for i := range 8 {
		wg.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("%d-%d", i, n)
				err := service.RecordAudit(t.Context(), "acme", protocol.AuditRecord{ID: id, At: protocol.At(time.Now())})
				mu.Lock()
				if err == nil {
					confirmed = append(confirmed, id)
				} else {
					failures++
					if !errors.Is(err, ErrUnavailable) {
						t.Errorf("not worth another try: %v", err)
					}
				}
				mu.Unlock()
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(confirmed)
	}
	for _, end := range []func(*local.Postgres) error{
		func(p *local.Postgres) error { return p.Kill() },
		func(p *local.Postgres) error { return p.Stop(t.Context()) },
	} {
		before := count()
		require.Eventually(t, func() bool { return count() > before+50 }, waitFor, tick)
		require.NoError(t, end(server))
		require.NoError(t, server.Start(t.Context()))
		after := count()
		require.Eventually(t, func() bool { return count() > after+50 }, waitFor, tick)
	}
	stop()
	wg.Wait()
	require.Positive(t, failures, "the restarts were noticed")
	l := map[string]bool{}
	require.NoError(t, service.Platform(t.Context(), func(tx *Tx) error {
		rows, err := tx.tx.Query(t.Context(), "select id from audit_log")
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
		for _, id := range ids {
			l[id] = true
		}
		return err
	}))
	for _, id := range confirmed {
		require.True(t, l[id], id)
	}
}

// One leads at a time; when its connection dies, another does.
func TestLead(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{})
	ctx, cancel := context.WithCancel(t.Context())
	var (
		mu      sync.Mutex
		leading int
		terms   int
		wg      sync.WaitGroup
	)
	for range 3 {
		wg.Go(func() {
			service.Lead(ctx, 10*time.Millisecond, func(ctx context.Context) {
				mu.Lock()
				leading++
				terms++
				if leading > 1 {
					t.Error("two lead at once")
				}
				mu.Unlock()
				<-ctx.Done()
				mu.Lock()
				leading--
				mu.Unlock()
			})
		})
	}
	term := func(n int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			return terms == n && leading == 1
		}
	}
	require.Eventually(t, term(1), waitFor, tick)
	cancel()
	wg.Wait()

	// Without its connection a leader resigns.
	ctx, cancel = context.WithCancel(t.Context())
	resigned := make(chan struct{}, 10)
	wg.Go(func() {
		service.Lead(ctx, 10*time.Millisecond, func(ctx context.Context) {
			<-ctx.Done()
			resigned <- struct{}{}
		})
	})
	require.Eventually(t, func() bool {
		tag, err := owner.pool.Exec(t.Context(), `
			select pg_terminate_backend(pid) from pg_locks
			where locktype = 'advisory' and classid = $1 and database = (select oid from pg_database where datname = current_database())`, leadership)
		return err == nil && tag.RowsAffected() == 1
	}, waitFor, tick)
	<-resigned
	cancel()
	wg.Wait()
}
