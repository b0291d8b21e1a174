package daemon

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

func TestLogLines(t *testing.T) {
	t.Parallel()
	rt, out := start(t, quiet())
	ctx := WithScope(t.Context(), Scope{RequestID: "req-1", Tenant: "acme"})
	ctx = WithScope(ctx, Scope{Workflow: "wf_1", Execution: "exec_1"})
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}}))
	rt.Logger(ctx).Warn("slow", zap.Duration("took", 1500*time.Millisecond))
	rt.Logger(t.Context()).Info("bare")

	line := out.find(t, "slow")
	stamp, ok := line["time"].(string)
	require.True(t, ok)
	require.Regexp(t, `^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$`, stamp)
	delete(line, "time")
	require.Equal(t, map[string]any{
		"level": "warn", "msg": "slow", "service": "testd", "version": Version(), "took": "1.5s",
		"request_id": "req-1", "tenant": "acme", "workflow_id": "wf_1", "execution_id": "exec_1",
		"trace_id": "01000000000000000000000000000000",
	}, line)
	require.NotContains(t, out.find(t, "bare"), "tenant")
}

func TestScopesNest(t *testing.T) {
	t.Parallel()
	outer := WithScope(t.Context(), Scope{Tenant: "acme", RequestID: "r"})
	inner := WithScope(outer, Scope{Execution: "e", RequestID: "r2"})
	require.Equal(t, Scope{Tenant: "acme", RequestID: "r2", Execution: "e"}, ScopeOf(inner))
	require.Equal(t, Scope{Tenant: "acme", RequestID: "r"}, ScopeOf(outer))
	require.Zero(t, ScopeOf(t.Context()))
}

func TestServicesShareOneProcess(t *testing.T) {
	t.Parallel()
	rt, out := start(t, quiet())
	one, two := rt.Service("one"), rt.Service("two")
	one.Log.Info("from one")
	two.Log.Info("from two")
	require.Equal(t, "one", out.find(t, "from one")["service"])
	require.Equal(t, "two", out.find(t, "from two")["service"])

	rt.Level.SetLevel(zap.ErrorLevel)
	two.Log.Info("unheard")
	require.NotContains(t, out.String(), "unheard")
	require.NoError(t, one.Close(t.Context()), "a service ends with its process")
	require.Panics(t, func() { rt.Service("one") }, "a name twice")
}

func TestUnknownLevel(t *testing.T) {
	t.Parallel()
	c := quiet()
	c.LogLevel = "loud"
	_, err := NewRuntime("testd", c)
	require.ErrorContains(t, err, "log level")
}
