package service

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// Conditions are looked at every tick; only a broken test waits for the whole time.
const (
	waitFor = 30 * time.Second
	tick    = 5 * time.Millisecond
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

// world is a catalog over a real Postgres and a real NATS, both its own.
type world struct {
	*Service
	t        testing.TB
	adminURL string
	url      string // of the service's login
	projects *Projector
	pool     *sql.DB // of the owner
}

// admin is the owner's connection, with the tables in its search path.
func (w *world) admin() *sql.DB {
	w.t.Helper()
	if w.pool != nil {
		return w.pool
	}
	u, err := url.Parse(w.adminURL)
	require.NoError(w.t, err)
	q := u.Query()
	q.Set("search_path", db.Schema)
	u.RawQuery = q.Encode()
	pool, err := sql.Open("pgx", u.String())
	require.NoError(w.t, err)
	w.t.Cleanup(func() { require.NoError(w.t, pool.Close()) })
	w.pool = pool
	return pool
}

type options struct {
	partitions int
	maxBytes   int64 // of the execution log
	poolSize   int
	adminURL   string // "" means a fresh database
}

func newWorld(t testing.TB, o options) *world {
	t.Helper()
	if o.adminURL == "" {
		o.adminURL = localtest.Postgres(t)
	}
	if o.poolSize == 0 {
		o.poolSize = 8
	}
	if o.partitions == 0 {
		o.partitions = 2
	}
	require.NoError(t, db.Migrate(t.Context(), o.adminURL, db.Options{}))
	url, err := db.Provision(t.Context(), o.adminURL, db.Access{})
	require.NoError(t, err)
	if o.maxBytes == 0 {
		o.maxBytes = 1 << 30
	}
	b := newBus(t, o.partitions, o.maxBytes)
	store := newStore(t, url, o.poolSize)
	w := &world{Service: New(store, b, testLog(t), prometheus.NewRegistry()), t: t, adminURL: o.adminURL, url: url}
	w.projects = NewProjector(w.Service)
	return w
}

func testLog(t testing.TB) *zap.Logger {
	t.Helper()
	if os.Getenv("CATALOG_TEST_LOG") == "" {
		return zap.NewNop()
	}
	return zap.Must(zap.NewDevelopment())
}

func newStore(t testing.TB, url string, poolSize int) *postgres.Store {
	t.Helper()
	store, err := postgres.Open(t.Context(), postgres.Config{URL: url, PoolSize: poolSize, PoolTimeout: 20 * time.Second, Log: testLog(t)})
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store
}

func newBus(t testing.TB, partitions int, maxBytes int64) *bus.Bus {
	t.Helper()
	server, err := local.Start(local.Options{Dir: t.TempDir()})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	b, err := bus.Connect(t.Context(), bus.Config{InProcess: server, Partitions: partitions, Replicas: 1, MaxBytes: maxBytes, CreateLayout: true, Name: "test"})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// project runs the projector until the test ends or stop is called.
func (w *world) project() (stop func()) {
	w.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.projects.Run(ctx)
	}()
	stop = func() {
		cancel()
		<-done
	}
	w.t.Cleanup(stop)
	return stop
}

// settled waits until the tables have everything that is in the log.
func (w *world) settled() {
	w.t.Helper()
	require.Eventually(w.t, func() bool { return w.AwaitTables(w.t.Context(), w.Streams()) == nil }, waitFor, tick)
}

var commands atomic.Int64

// command makes a command that has not been sent.
func command(t protocol.TenantID, v protocol.Verb, data any) protocol.Command {
	raw, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	return protocol.Command{
		ID: typeid.New("cmd"), Tenant: t, Verb: v, Actor: "key_tester", RequestID: fmt.Sprint("req-", commands.Add(1)),
		At: protocol.At(time.Now()), Data: raw,
	}
}

// do carries out a command that must succeed.
func do[T any](w *world, t protocol.TenantID, v protocol.Verb, data any) T {
	w.t.Helper()
	out, err := try[T](w, t, v, data)
	require.NoError(w.t, err, "%s", v)
	return out
}

// try carries out a command.
func try[T any](w *world, t protocol.TenantID, v protocol.Verb, data any) (T, error) {
	w.t.Helper()
	return send[T](w, command(t, v, data))
}

func send[T any](w *world, c protocol.Command) (T, error) {
	w.t.Helper()
	var out T
	raw, err := w.CarryOut(w.t.Context(), c, true)
	if err != nil {
		return out, err
	}
	err = json.Unmarshal(raw, &out)
	return out, err
}

func (w *world) tenant(id protocol.TenantID) protocol.TenantID {
	w.t.Helper()
	do[protocol.Tenant](w, id, protocol.VerbTenantCreate, protocol.CreateTenant{})
	return id
}

// plain is a workflow that names no source; with any it names those.
func plain(sources ...string) json.RawMessage {
	nodes := []map[string]any{{"id": "in", "type": "input"}}
	var edges []map[string]any
	last := "in"
	for i, s := range sources {
		id := fmt.Sprint("n", i)
		nodes = append(nodes, map[string]any{"id": id, "type": "llm", "metadata": map[string]any{"source_id": s, "prompt": "hello"}})
		edges = append(edges, map[string]any{"from": last, "to": id})
		last = id
	}
	spec := map[string]any{"name": "greeter", "start_node": "in", "nodes": nodes}
	if edges != nil {
		spec["edges"] = edges
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		panic(err)
	}
	return raw
}

func llm(id string) protocol.CreateSource {
	return protocol.CreateSource{Source: workflow.Source{ID: id, Kind: "llm", Config: map[string]any{
		"provider": "openai", "model": "gpt-4o-mini", "api_key_env": "OPENAI_API_KEY",
	}}}
}

func (w *world) workflow(t protocol.TenantID, name string, sources ...string) protocol.Workflow {
	w.t.Helper()
	return do[protocol.Workflow](w, t, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: name, Spec: plain(sources...)})
}

func requireCode(t testing.TB, err error, code protocol.Code) {
	t.Helper()
	_ = refusalOf(t, err, code)
}

func refusalOf(t testing.TB, err error, code protocol.Code) *protocol.Error {
	t.Helper()
	var refusal *protocol.Error
	require.ErrorAs(t, err, &refusal)
	require.Equal(t, code, refusal.Code, refusal.Message)
	return refusal
}
