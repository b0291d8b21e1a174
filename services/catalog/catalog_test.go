package catalog_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"net/url"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
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
		closing, cancel := context.WithTimeout(context.Background(), waitFor)
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

// A database that is not there yet is waited for.
func TestStartsBeforePostgres(t *testing.T) {
	t.Parallel()
	server := localtest.PostgresServer(t)
	p := newPlatform(t)
	p.cfg.DatabaseURL = server.URL()
	require.NoError(t, server.Stop(t.Context()))
	p.run()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := bus.SendCommand[protocol.Tenant](ctx, p.bus, p.command("acme", protocol.VerbTenantCreate, protocol.CreateTenant{}))
	require.ErrorIs(t, err, bus.ErrUnavailable)
	require.NoError(t, server.Start(t.Context()))
	do[protocol.Tenant](p, "beta", protocol.VerbTenantCreate, protocol.CreateTenant{})
}

// With a login that owns nothing, catalog works on what somebody else has migrated.
func TestLoginWithoutRights(t *testing.T) {
	t.Parallel()
	p := newPlatform(t)
	owner := p.cfg.DatabaseURL
	require.NoError(t, db.Migrate(t.Context(), owner, db.Options{}))
	login, err := db.Provision(t.Context(), owner, db.Access{})
	require.NoError(t, err)
	p.cfg.DatabaseURL = login
	stop := p.run()
	p.fill()
	stop()
	_, err = catalog.Verify(t.Context(), p.cfg, p.bus, 0, &strings.Builder{})
	require.ErrorContains(t, err, "must be the owner's")
	require.ErrorContains(t, catalog.Replay(t.Context(), p.cfg, p.bus, &strings.Builder{}), "must be the owner's")
	p.cfg.DatabaseURL = owner
	require.Empty(t, p.verify().Differences)

	// Without the tables it says what to do.
	require.NoError(t, db.Down(t.Context(), owner, -1, db.Options{}))
	p.cfg.DatabaseURL = login
	rt, err := daemon.NewRuntime("catalog", daemon.Common{LogLevel: "error", LogFormat: "console", ShutdownTimeout: time.Second})
	require.NoError(t, err)
	require.ErrorContains(t, catalog.Run(t.Context(), rt, p.bus, p.cfg), "agentflow migrate up")
	require.NoError(t, rt.Close(t.Context()))
}
