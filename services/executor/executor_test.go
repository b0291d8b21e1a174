package executor_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/leaktest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor"
)

func TestMain(m *testing.M) { leaktest.VerifyTestMain(m) }

// patience bounds every wait for something that is to happen soon.
const patience = 30 * time.Second

// start runs an executor as a process of its own does, until stop is called.
func start(t *testing.T, server *local.Server, environ ...string) (rt *daemon.Runtime, registry *prometheus.Registry, stop func() error) {
	t.Helper()
	cfg, err := daemon.Load[executor.Config](append([]string{"LOG_LEVEL=error", "NATS_URL=" + server.ClientURL()}, environ...))
	require.NoError(t, err)
	rt, err = daemon.NewRuntime("executor", cfg.Common)
	require.NoError(t, err)
	registry = prometheus.NewRegistry()
	rt.Metrics = registry
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- executor.Main(ctx, rt, cfg) }()
	stop = sync.OnceValue(func() error {
		cancel()
		err := <-ended
		require.NoError(t, rt.Close(context.Background()))
		return err
	})
	t.Cleanup(func() { require.NoError(t, stop()) })
	return rt, registry, stop
}

func startNATS(t *testing.T) *local.Server {
	t.Helper()
	server, err := local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: -1})
	require.NoError(t, err)
	t.Cleanup(server.Stop)
	return server
}

// TestMainRunsExecutions: what a gateway put into the log is run, sources are tried for the catalog, and what is counted
// can be read.
func TestMainRunsExecutions(t *testing.T) {
	server := startNATS(t)
	b, err := bus.Connect(t.Context(), bus.Config{URL: server.ClientURL(), Partitions: protocol.DefaultParts, Replicas: 1, MaxBytes: 64 << 20, CreateLayout: true})
	require.NoError(t, err)
	t.Cleanup(b.Close)
	rt, registry, stop := start(t, server)

	spec, err := workflow.Parse([]byte(`{"start_node":"ask","nodes":[{"id":"ask","type":"llm","metadata":{"source_id":"model","prompt_template":"hello {user_input}"}}],
		"sources":[{"id":"model","kind":"llm","config":{"provider":"echo","model":"m"}}]}`))
	require.NoError(t, err)
	subject, reply, release, err := b.Expect()
	require.NoError(t, err)
	defer release()
	_, err = b.Append(t.Context(), b.Key("acme", protocol.ExecutionID(typeid.New("exec"))), 0, protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{{
		At: protocol.At(time.Now()), Event: protocol.Requested{
			SpecHash: workflow.Hash(spec.Raw), Spec: protocol.VerbatimOf(spec.Raw), Input: protocol.RawObject(json.RawMessage(`{"user_input":"you"}`)),
			Deadline: protocol.At(time.Now().Add(patience)), Reply: subject,
		},
	}}})
	require.NoError(t, err)
	var body []byte
	select {
	case body = <-reply:
	case <-time.After(patience):
		require.Fail(t, "no reply", "%v", stop())
	}
	commit, err := protocol.DecodeCommit("", body)
	require.NoError(t, err)
	done, ok := commit.Events[len(commit.Events)-1].Event.(protocol.Completed)
	require.True(t, ok, "%+v", commit.Events)
	state, err := done.State.Values()
	require.NoError(t, err)
	require.Equal(t, "hello you", state["text_result"])

	for id, connected := range map[string]bool{"echo": true, "nobody": false} {
		got, err := bus.Request(t.Context(), b, protocol.TestSource, protocol.TestSourceRequest{
			Tenant: "acme", Source: workflow.Source{ID: "s", Kind: "llm", Config: map[string]any{"provider": id, "model": "m"}},
		})
		require.NoError(t, err)
		require.Equal(t, connected, got.Connected, "%s: %s", id, got.Message)
	}
	_, err = bus.Request(t.Context(), b, protocol.TestSource, protocol.TestSourceRequest{Tenant: "*"})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeInvalid})

	report := rt.Health.Ready(t.Context())
	require.Equal(t, daemon.StatusOK, report.Checks["nats"].Status)
	require.Contains(t, report.Checks, "limiter")
	families, err := registry.Gather()
	require.NoError(t, err)
	var known []string
	for _, f := range families {
		known = append(known, f.GetName())
	}
	require.Contains(t, known, "agentflow_executions_running")
	require.NoError(t, stop())
}

// TestMainNeedsNATS: an address where nobody is ends the process, and says which.
func TestMainNeedsNATS(t *testing.T) {
	server := startNATS(t)
	url := server.ClientURL()
	server.Stop()
	cfg, err := daemon.Load[executor.Config]([]string{"LOG_LEVEL=error", "NATS_URL=" + url})
	require.NoError(t, err)
	rt, err := daemon.NewRuntime("executor", cfg.Common)
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Close(context.Background())) }()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, executor.Main(ctx, rt, cfg))
}

// TestConfig: what cannot be is said all at once.
func TestConfig(t *testing.T) {
	_, err := daemon.Load[executor.Config]([]string{
		"EXECUTOR_CONCURRENCY=0", "EXECUTOR_ACK_WAIT_SECONDS=0", "EXECUTOR_MAX_TAKEOVERS=0", "NODE_TIMEOUT_SECONDS=0", "EXECUTION_STATE_MAX_BYTES=1",
	})
	for _, name := range []string{"EXECUTOR_CONCURRENCY", "EXECUTOR_ACK_WAIT_SECONDS", "EXECUTOR_MAX_TAKEOVERS", "NODE_TIMEOUT_SECONDS", "EXECUTION_STATE_MAX_BYTES"} {
		require.ErrorContains(t, err, name)
	}
	_, err = daemon.Load[executor.Config]([]string{
		"EGRESS_ALLOW=10.0.0.0/99", "SECRETS_ALLOW=NOT A NAME", "EXECUTOR_DRAIN_SECONDS=-1", "OPENAI_BASE_URL=proxy.internal",
		"GROQ_BASE_URL=x", "ANTHROPIC_BASE_URL=x", "GOOGLE_GEMINI_BASE_URL=x", "OLLAMA_BASE_URL=localhost:11434",
	})
	for _, name := range []string{
		"EGRESS_ALLOW", "SECRETS_ALLOW", "EXECUTOR_DRAIN_SECONDS", "OPENAI_BASE_URL", "GROQ_BASE_URL", "ANTHROPIC_BASE_URL", "GOOGLE_GEMINI_BASE_URL", "OLLAMA_BASE_URL",
	} {
		require.ErrorContains(t, err, name)
	}
}
