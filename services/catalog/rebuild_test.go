package catalog_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/archive"
	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/catalog"
)

type damage struct{ statement, table, field string }

// damages are all the ways in which a table may come to lie, and the place that verify must name.
var damages = []damage{
	{"delete from tenants where id = 'acme'", "tenants", ""},
	{"update tenants set status = 'suspended' where id = 'beta'", "tenants", "status"},
	{"insert into tenants values ('ghost', 'g', 'active', null, 1, now(), now(), 1, 1)", "tenants", ""},
	{"update api_keys set status = 'active'", "api_keys", "status"},
	{"delete from api_keys", "api_keys", ""},
	{"update workflows set spec = '{}' where name = 'renamed'", "workflows", "spec"},
	{"update workflows set tenant_id = 'beta' where tenant_id = 'acme'", "workflows", ""},
	{"delete from workflow_versions where version = 1", "workflow_versions", ""},
	{"delete from workflow_sources", "workflow_sources", ""},
	{"update sources set config = '{\"model\":\"other\"}'", "sources", "config"},
	{"delete from audit_log where action = 'key_revoked'", "audit_log", ""},
	{"update audit_log set actor = 'nobody' where action = 'key_created'", "audit_log", "actor"},
	{"update executions set tokens_used = 1000000 where status = 'COMPLETED'", "executions", "tokens_used"},
	{"update executions set status = 'FAILED' where status = 'COMPLETED'", "executions", "status"},
	{"delete from executions where status = 'RUNNING'", "executions", ""},
	{"delete from execution_tags", "execution_tags", ""},
	{"update execution_events set body = '{}' where seq = 1", "execution_events", "body_md5"},
	{"delete from execution_events where seq % 3 = 0", "execution_events", ""},
	{"update row_counts set n = n + 5 where kind = 'execution'", "row_counts", "n"},
	{"delete from row_counts", "row_counts", "n"},
}

func TestVerifyAndReplay(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.run()
	p.fill()
	// Something without an event, which must outlive a replay.
	_, err := bus.Request(t.Context(), p.bus, protocol.RecordAudit, protocol.RecordAuditRequest{Tenant: "acme", Actor: "key_1", Reason: "key revoked"})
	require.NoError(t, err)

	report := p.verify()
	require.Empty(t, report.Differences)
	require.EqualValues(t, 2+2+4+2, report.Documents)
	require.EqualValues(t, 42, report.Executions)
	require.EqualValues(t, 40*4+2*2, report.Commits)

	// In each round one damage to every table, all found, and all healed.
	for round := 0; ; round++ {
		done := map[string]int{}
		var now []damage
		for _, d := range damages {
			if done[d.table] == round {
				now = append(now, d)
			}
			done[d.table]++
		}
		if len(now) == 0 {
			require.Greater(t, round, 1)
			break
		}
		for _, d := range now {
			require.Positive(t, p.exec(d.statement), d.statement)
		}
		report := p.verify()
		for _, d := range now {
			require.True(t, slices.ContainsFunc(report.Differences, func(diff protocol.Difference) bool {
				return diff.Table == d.table && diff.Field == d.field
			}), "%s: %v", d.statement, report.Differences)
		}
		var said strings.Builder
		require.NoError(t, catalog.Replay(t.Context(), p.cfg, p.bus, &said), "round %d", round)
		require.Contains(t, said.String(), "done")
		require.Empty(t, p.verify().Differences, "round %d", round)
	}

	// The service has gone on all the while, and goes on.
	audit, err := bus.Request(t.Context(), p.bus, protocol.ListAudit, protocol.ListAuditRequest{Tenant: "acme", Action: protocol.ActionAccessRefused})
	require.NoError(t, err)
	require.Len(t, audit.Items, 1)
	wf := do[protocol.Workflow](p, "acme", protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "after", Spec: spec("main")})
	key := p.execute("acme", wf.ID, completed())
	p.settled()
	x, err := bus.Request(t.Context(), p.bus, protocol.GetExecution, protocol.GetExecutionRequest{Tenant: "acme", ID: key.ID})
	require.NoError(t, err)
	require.Equal(t, "COMPLETED", x.Status)
	require.Empty(t, p.verify().Differences)
	var schemas int
	require.NoError(t, p.admin.QueryRowContext(t.Context(), "select count(*) from pg_namespace where nspname like 'agentflow%'").Scan(&schemas))
	require.Equal(t, 1, schemas, "nothing is left behind")
}

// What the hot log has lost to the janitor, a replay takes from the archive; and work goes on
// while it runs.
func TestReplayFromTheArchiveUnderLoad(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	p.cfg.HotLogGrace = 0
	p.run()
	wf := p.fill()
	require.Eventually(t, func() bool {
		for i := range 2 {
			state, err := p.bus.State(t.Context(), protocol.PartitionStream(i))
			if err != nil || state.First == 1 {
				return false
			}
		}
		return true
	}, waitFor, tick, "the janitor trims behind the oldest living execution")

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan int)
	go func() {
		n := 0
		// A steady load: one as fast as the machine allows could outrun the rebuild for ever.
		pace := time.NewTicker(5 * time.Millisecond)
		defer pace.Stop()
		for ctx.Err() == nil {
			p.execute("beta", wf.ID, completed())
			n++
			<-pace.C
		}
		done <- n
	}()
	var said strings.Builder
	require.NoError(t, catalog.Replay(t.Context(), p.cfg, p.bus, &said), said.String())
	stop()
	n := <-done
	require.Positive(t, n)
	p.settled()
	l, err := bus.Request(t.Context(), p.bus, protocol.ListExecutions, protocol.ListExecutionsRequest{Tenant: "beta"})
	require.NoError(t, err)
	require.EqualValues(t, 21+n, l.Total)
	require.Empty(t, p.verify().Differences)
}

func TestReplayNeedsTheOwner(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	stop := p.run()
	p.fill()
	stop()
	cfg := p.cfg
	cfg.DatabaseURL = strings.Replace(cfg.DatabaseURL, "://", "+asyncpg://", 1)
	require.NoError(t, catalog.Replay(t.Context(), cfg, p.bus, &strings.Builder{}), "and without any service running")
}

// What the version before wrote (whole runs of nodes, commits as they came) reads, goes on and compares as what this one writes.
func TestRowsOfTheVersionBefore(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	stop := p.run()
	wf := p.fill()
	living := p.execute("acme", wf.ID, protocol.Started{Executor: "e"}, protocol.NodeFailed{
		Node: "in", Attempt: 1, Error: protocol.Failure{Code: protocol.CodeTimedOut, Message: "late"}, StartedAt: protocol.At(time.Now()), DurationMS: 7,
		NextTryAt: protocol.At(time.Now().Add(time.Hour)),
	})
	p.settled()
	read := func() (list []protocol.Execution) {
		for _, tenant := range []protocol.TenantID{"acme", "beta"} {
			page, err := bus.Request(t.Context(), p.bus, protocol.ListExecutions, protocol.ListExecutionsRequest{Tenant: tenant})
			require.NoError(t, err)
			for _, item := range page.Items {
				x, err := bus.Request(t.Context(), p.bus, protocol.GetExecution, protocol.GetExecutionRequest{Tenant: tenant, ID: item.ID})
				require.NoError(t, err)
				list = append(list, x)
			}
		}
		return list
	}
	want := read()
	require.Len(t, want, 43)
	stop()

	require.NoError(t, db.Down(t.Context(), p.cfg.DatabaseURL, 1, db.Options{}))
	var whole int
	require.NoError(t, p.admin.QueryRowContext(t.Context(), `select count(*) from executions where nodes @> '[{"node":"in"}]'`).Scan(&whole))
	require.Equal(t, 41, whole, "the way back keeps the runs")
	p.unpack()
	p.run()
	p.settled()
	require.Equal(t, want, read())
	require.Empty(t, p.verify().Differences)

	last, err := p.bus.Last(t.Context(), living)
	require.NoError(t, err)
	_, err = p.bus.Append(t.Context(), living, last.Sequence, protocol.Commit{
		ID: typeid.New("c"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: completed()}},
	})
	require.NoError(t, err)
	p.settled()
	x, err := bus.Request(t.Context(), p.bus, protocol.GetExecution, protocol.GetExecutionRequest{Tenant: "acme", ID: living.ID})
	require.NoError(t, err)
	require.Equal(t, "COMPLETED", x.Status)
	require.Len(t, x.Nodes, 1)
	require.Equal(t, "FAILED", x.Nodes[0].Status)
	require.Empty(t, p.verify().Differences)
	for _, damage := range []string{
		`update executions set nodes = jsonb_set(nodes, '{0,attempt}', '7') where id = (select min(id) from executions where nodes @> '[{"node":"in"}]')`,
		"update execution_events set body = body || ' ' where seq = 2 and partition = 1",
	} {
		require.Positive(t, p.exec(damage), damage)
	}
	fields := map[string]bool{}
	for _, d := range p.verify().Differences {
		fields[d.Table+"."+d.Field] = true
	}
	require.Equal(t, map[string]bool{"executions.nodes": true, "execution_events.body_md5": true}, fields)
}

// unpack writes the archive as it was before commits were packed.
func (p *platform) unpack() {
	p.t.Helper()
	rows, err := p.admin.QueryContext(p.t.Context(), "select partition, seq, body from execution_events")
	require.NoError(p.t, err)
	defer func() { require.NoError(p.t, rows.Close()) }()
	type commit struct {
		partition int
		seq       int64
		body      []byte
	}
	var list []commit
	for rows.Next() {
		var c commit
		require.NoError(p.t, rows.Scan(&c.partition, &c.seq, &c.body))
		list = append(list, c)
	}
	require.NoError(p.t, rows.Err())
	for _, c := range list {
		body, err := archive.Open(c.body)
		require.NoError(p.t, err)
		_, err = p.admin.ExecContext(p.t.Context(), "update execution_events set body = $1 where partition = $2 and seq = $3", body, c.partition, c.seq)
		require.NoError(p.t, err)
	}
}
