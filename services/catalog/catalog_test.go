package catalog_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/catalog"
)

const (
	waitFor = 60 * time.Second
	tick    = 10 * time.Millisecond
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

// platform is a NATS, a database, and instances of catalog over them.
type platform struct {
	t     *testing.T
	bus   *bus.Bus
	cfg   catalog.Config
	admin *sql.DB
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	server, err := local.Start(local.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	b, err := bus.Connect(t.Context(), bus.Config{InProcess: server, Partitions: 2, Replicas: 1, MaxBytes: 1 << 30, CreateLayout: true, Name: "test"})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	p := &platform{t: t, bus: b, cfg: catalog.Config{
		DatabaseURL: localtest.Postgres(t), Migrate: true, PoolSize: 6, PoolOverflow: 2, PoolTimeout: 10 * time.Second, PoolRecycle: time.Hour,
		HotLogGrace: time.Hour, TrimEvery: 50 * time.Millisecond,
	}}
	p.connect(p.cfg.DatabaseURL)
	return p
}

func (p *platform) connect(databaseURL string) {
	p.t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(p.t, err)
	q := u.Query()
	q.Set("search_path", "agentflow")
	u.RawQuery = q.Encode()
	p.admin, err = sql.Open("pgx", u.String())
	require.NoError(p.t, err)
	p.t.Cleanup(func() { require.NoError(p.t, p.admin.Close()) })
}

// run starts an instance, and returns what stops it.
func (p *platform) run() (stop func()) {
	p.t.Helper()
	rt, err := daemon.NewRuntime("catalog", daemon.Common{LogLevel: "error", LogFormat: "console", ShutdownTimeout: 20 * time.Second})
	require.NoError(p.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- catalog.Run(ctx, rt, p.bus, p.cfg) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			p.t.Error(err)
		}
		closing, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := rt.Close(closing); err != nil {
			p.t.Error(err)
		}
	}
	p.t.Cleanup(stop)
	return stop
}

func (p *platform) command(t protocol.TenantID, v protocol.Verb, data any) protocol.Command {
	raw, err := json.Marshal(data)
	require.NoError(p.t, err)
	return protocol.Command{ID: typeid.New("cmd"), Tenant: t, Verb: v, Actor: "tester", At: protocol.At(time.Now()), Data: raw}
}

func do[T any](p *platform, t protocol.TenantID, v protocol.Verb, data any) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), waitFor)
	defer cancel()
	out, err := bus.SendCommand[T](ctx, p.bus, p.command(t, v, data))
	require.NoError(p.t, err)
	return out
}

// execute writes an execution as an executor would.
func (p *platform) execute(t protocol.TenantID, workflowID string, commits ...protocol.Event) protocol.ExecutionKey {
	p.t.Helper()
	key := p.bus.Key(t, protocol.ExecutionID(typeid.New("exec")))
	events := append([]protocol.Event{protocol.Requested{
		WorkflowID: workflowID, WorkflowVersion: 1, Input: protocol.ObjectOf(workflow.Values{"user_input": "hi"}), Tags: []string{"tag"},
	}}, commits...)
	var last uint64
	for _, e := range events {
		var err error
		last, err = p.bus.Append(p.t.Context(), key, last, protocol.Commit{ID: typeid.New("c"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: e}}})
		require.NoError(p.t, err)
	}
	return key
}

func completed() protocol.Event {
	return protocol.Completed{
		State: protocol.ObjectOf(workflow.Values{"final_output": "x"}), Totals: protocol.Totals{TokensUsed: 3, Cost: "0.5", NodesRun: 1, DurationMS: 10},
	}
}

// settled waits until the tables have what is in the log.
func (p *platform) settled() {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		report, err := bus.Request(p.t.Context(), p.bus, protocol.ProjectionStates, protocol.ProjectionStatesRequest{})
		if err != nil {
			return false
		}
		for _, s := range report.Projections {
			if s.Projected < s.Last {
				return false
			}
		}
		return true
	}, waitFor, tick)
}

func spec(sources ...string) json.RawMessage {
	nodes := []string{`{"id":"in","type":"input"}`}
	edges := []string{}
	for i, s := range sources {
		id := string(rune('a' + i))
		nodes = append(nodes, `{"id":"`+id+`","type":"llm","metadata":{"source_id":"`+s+`","prompt":"p"}}`)
		edges = append(edges, `{"from":"in","to":"`+id+`"}`)
	}
	return json.RawMessage(`{"name":"flow","start_node":"in","nodes":[` + strings.Join(nodes, ",") + `],"edges":[` + strings.Join(edges, ",") + `]}`)
}

// fill writes something of every kind, and returns a workflow.
func (p *platform) fill() protocol.Workflow {
	p.t.Helper()
	var wf protocol.Workflow
	for _, t := range []protocol.TenantID{"acme", "beta"} {
		do[protocol.Tenant](p, t, protocol.VerbTenantCreate, protocol.CreateTenant{})
		key := do[protocol.Key](p, t, protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: strings.Repeat(map[protocol.TenantID]string{"acme": "ab", "beta": "cd"}[t], 32)})
		do[protocol.Key](p, t, protocol.VerbKeyRevoke, protocol.RevokeKey{ID: key.ID})
		do[protocol.KeptSource](p, t, protocol.VerbSourceCreate, protocol.CreateSource{Source: workflow.Source{
			ID: "main", Kind: "llm", Config: map[string]any{"model": "m", "api_key_env": "K"},
		}})
		wf = do[protocol.Workflow](p, t, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "w", Spec: spec("main")})
		name := "renamed"
		do[protocol.Workflow](p, t, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{ID: wf.ID, Name: &name})
		gone := do[protocol.Workflow](p, t, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "gone", Spec: spec()})
		do[protocol.Workflow](p, t, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: gone.ID})
		for range 20 {
			p.execute(t, wf.ID, protocol.Started{Executor: "e"}, protocol.NodeCompleted{Node: "in", Cost: "0.5", Tokens: 3}, completed())
		}
		p.execute(t, wf.ID, protocol.Started{Executor: "e"})
	}
	p.settled()
	return wf
}

func (p *platform) exec(statement string) int64 {
	p.t.Helper()
	result, err := p.admin.ExecContext(p.t.Context(), statement)
	require.NoError(p.t, err)
	n, err := result.RowsAffected()
	require.NoError(p.t, err)
	return n
}

func (p *platform) verify() protocol.VerifyReport {
	p.t.Helper()
	var said strings.Builder
	report, err := catalog.Verify(p.t.Context(), p.cfg, p.bus, 0, &said)
	require.NoError(p.t, err, said.String())
	return report
}

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
		for ctx.Err() == nil {
			p.execute("beta", wf.ID, completed())
			n++
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

// Two instances start at once on an empty database; either can die, and the other goes on.
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	first := p.run()
	second := p.run()
	wf := p.fill()
	first()
	p.execute(wf.Tenant, wf.ID, completed())
	do[protocol.Workflow](p, wf.Tenant, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "w2", Spec: spec("main")})
	p.settled()
	third := p.run()
	second()
	p.execute(wf.Tenant, wf.ID, completed())
	p.settled()
	third()
	require.Empty(t, p.verify().Differences)
}
