package postgres

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
)

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
		_, _, err = service.Needed(ctx, 0, "EXECUTIONS_0", 1)
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
