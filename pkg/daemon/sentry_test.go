package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/getsentry/sentry-go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/sentrytest"
)

// reporting is a runtime that reports into in, and what to call to have everything delivered.
func reporting(t *testing.T, in *sentrytest.Inbox, change func(*Common)) (rt *Runtime, deliver func() []map[string]any) {
	t.Helper()
	c := quiet()
	c.SentryDSN = in.DSN()
	c.SentryEnvironment = "production"
	if change != nil {
		change(&c)
	}
	rt, err := newRuntime("testd", c, &logs{})
	require.NoError(t, err)
	return rt, func() []map[string]any {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, rt.Close(ctx))
		return in.Events()
	}
}

type confession struct {
	Note     string
	Password string
}

func TestReportsCarryScopeAndNoSecrets(t *testing.T) {
	t.Parallel()
	in := sentrytest.New(t)
	rt, deliver := reporting(t, in, nil)
	rt.Mask("hunter2-of-the-tenant")
	service := rt.Service("executor")

	ctx := WithScope(t.Context(), Scope{RequestID: "req-1", Tenant: "acme", Workflow: "wf_1", Execution: "exec_1"})
	ctx = trace.ContextWithSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{0xab}, SpanID: trace.SpanID{0xcd}}))
	service.Breadcrumb(ctx, "execution", "started with hunter2-of-the-tenant", nil)
	service.Breadcrumb(ctx, "node", "called https://api.example.com/?api_key=PLANTED1", map[string]any{
		"node":          "ask",
		"Authorization": "Bearer PLANTED2",
		"cookie":        "PLANTED3",
		"body":          `{"card":"PLANTED4"}`,
		"headers":       map[string]any{"X-API-Key": "PLANTED5", "Accept": "text/html"},
		"list":          []any{"token=PLANTED6", 7, true},
		"struct":        confession{Note: "secret: PLANTED7", Password: "PLANTED8"},
		"error":         errors.New("password=PLANTED9"),
		"took":          1500 * time.Millisecond,
		"func":          func() {},
		"tokens_used":   17,
	})
	data := map[string]any{"api_key": "PLANTED0"}
	service.Breadcrumb(ctx, "node", "failed", data)
	service.Capture(ctx, fmt.Errorf("run node ask: %w", errors.New("dial postgres://app:PLANTEDA@db: sk-PLANTEDBabcdefghijkl")))
	require.Equal(t, map[string]any{"api_key": "PLANTED0"}, data, "the caller's map stays as it is")

	events := deliver()
	require.Len(t, events, 1)
	event := events[0]
	require.NotContains(t, in.Raw(), "PLANTED")
	require.NotContains(t, in.Raw(), "hunter2")
	require.Equal(t, map[string]any{
		"service": "executor", "request_id": "req-1", "tenant": "acme", "workflow_id": "wf_1", "execution_id": "exec_1",
	}, event["tags"])
	require.Equal(t, "production", event["environment"])
	require.Equal(t, "agentflow@"+Version(), event["release"])
	exceptions := event["exception"].([]any)
	last := exceptions[len(exceptions)-1].(map[string]any)
	require.Equal(t, "run node ask: dial postgres://app:***MASKED***@db: ***MASKED***", last["value"])
	require.NotNil(t, last["stacktrace"])
	traced := event["contexts"].(map[string]any)["trace"].(map[string]any)
	require.Equal(t, "ab000000000000000000000000000000", traced["trace_id"])

	crumbs := event["breadcrumbs"].([]any)
	require.Len(t, crumbs, 3)
	require.Equal(t, "started with ***MASKED***", crumbs[0].(map[string]any)["message"])
	node := crumbs[1].(map[string]any)
	require.Equal(t, "called https://api.example.com/?api_key=***MASKED***", node["message"])
	content := node["data"].(map[string]any)
	require.Equal(t, "ask", content["node"])
	require.InDelta(t, 17, content["tokens_used"], 0)
	require.Equal(t, "1.5s", content["took"])
	require.Equal(t, map[string]any{"X-API-Key": masked, "Accept": "text/html"}, content["headers"])
}

func TestPanicsAreReportedOnce(t *testing.T) {
	t.Parallel()
	in := sentrytest.New(t)
	rt, deliver := reporting(t, in, nil)
	explode := func(ctx context.Context, value any) (err error) {
		defer rt.Recover(ctx, &err)
		panic(value)
	}
	ctx := WithScope(t.Context(), Scope{Execution: "exec_1"})
	for _, value := range []any{errTest, "text with token=PLANTED", 42} {
		err := explode(ctx, value)
		var panicked *PanicError
		require.ErrorAs(t, err, &panicked)
		rt.Capture(ctx, fmt.Errorf("service: %w", err))
	}
	require.NoError(t, func() (err error) { defer rt.Recover(ctx, &err); return nil }())
	events := deliver()
	require.Len(t, events, 3)
	for _, event := range events {
		require.Equal(t, "fatal", event["level"])
		require.Equal(t, "exec_1", event["tags"].(map[string]any)["execution_id"])
	}
	require.NotContains(t, in.Raw(), "PLANTED")
	require.Contains(t, in.Raw(), "sentry_test.go", "the stack leads to the panic")
}

func TestWhatIsNotReported(t *testing.T) {
	t.Parallel()
	zero := 0.0
	for name, change := range map[string]func(*Common){
		"development by default": func(c *Common) { c.SentryEnvironment = "development" },
		"rate 0 in production":   func(c *Common) { c.SentrySampleRate = &zero },
		"no DSN":                 func(c *Common) { c.SentryDSN = "" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := sentrytest.New(t)
			rt, deliver := reporting(t, in, change)
			ctx := WithScope(t.Context(), Scope{Execution: "exec_1"})
			rt.Breadcrumb(ctx, "node", "started", nil)
			rt.Capture(ctx, errTest)
			func() (err error) { defer rt.Recover(ctx, &err); panic("oh") }() //nolint:errcheck // only the report counts
			require.Empty(t, deliver())
			require.Empty(t, in.Raw())
			require.Empty(t, trailOf(ctx).all(), "no trail is kept for nobody")
		})
	}
	in := sentrytest.New(t)
	rt, deliver := reporting(t, in, nil)
	rt.Capture(t.Context(), nil)
	rt.Capture(t.Context(), fmt.Errorf("load: %w", context.Canceled))
	require.Empty(t, deliver())
}

func TestReportsInDevelopmentWhenAsked(t *testing.T) {
	t.Parallel()
	one := 1.0
	in := sentrytest.New(t)
	rt, deliver := reporting(t, in, func(c *Common) {
		c.SentryEnvironment, c.SentrySampleRate, c.SentryRelease = "development", &one, "custom@7"
	})
	rt.Capture(t.Context(), errTest)
	events := deliver()
	require.Len(t, events, 1)
	require.Equal(t, "custom@7", events[0]["release"])
}

// The client of one runtime is not the client of another, nor the library's global one.
func TestRuntimesReportApart(t *testing.T) {
	t.Parallel()
	left, right := sentrytest.New(t), sentrytest.New(t)
	one, deliverOne := reporting(t, left, nil)
	_, deliverTwo := reporting(t, right, nil)
	one.Capture(t.Context(), errTest)
	require.False(t, sentry.CurrentHub().Client().IsEnabled()) //nolint:forbidigo // shows that nobody touched it
	require.Len(t, deliverOne(), 1)
	require.Empty(t, deliverTwo())
}

func TestScrubberDropsWhatClientsSent(t *testing.T) {
	t.Parallel()
	event := &sentry.Event{
		Message:     "token=PLANTED",
		Transaction: "GET /?api_key=PLANTED",
		Tags:        map[string]string{"password": "PLANTED", "note": "secret=PLANTED"},
		Contexts:    map[string]sentry.Context{"env": {"GROQ_API_KEY": "PLANTED", "note": "Bearer PLANTED-TOKEN"}},
		Request: &sentry.Request{
			URL: "http://x/?api_key=PLANTED", Data: "PLANTED", Cookies: "PLANTED", QueryString: "PLANTED",
			Headers: map[string]string{"Authorization": "PLANTED"}, Env: map[string]string{"SECRET": "PLANTED"},
		},
		User:        sentry.User{Email: "PLANTED@example.com", IPAddress: "10.0.0.1"},
		Fingerprint: []string{"password=PLANTED"},
		Attachments: []*sentry.Attachment{{Filename: "PLANTED", Payload: []byte("PLANTED")}},
		Exception: []sentry.Exception{{
			Value:      "password: PLANTED",
			Mechanism:  &sentry.Mechanism{Data: map[string]any{"token": "PLANTED"}},
			Stacktrace: &sentry.Stacktrace{Frames: []sentry.Frame{{Vars: map[string]any{"password": "PLANTED"}}}},
		}},
		Threads:     []sentry.Thread{{Stacktrace: &sentry.Stacktrace{Frames: []sentry.Frame{{Vars: map[string]any{"secret": "PLANTED"}}}}}},
		Breadcrumbs: []*sentry.Breadcrumb{{Message: "secret=PLANTED"}},
	}
	clean := scrubber{newMasks()}.event(event, nil)
	require.NotNil(t, clean)
	data, err := json.Marshal(clean)
	require.NoError(t, err)
	require.NotContains(t, string(data), "PLANTED")
	require.NotContains(t, string(data), "10.0.0.1")
	require.Empty(t, clean.Attachments)
}

func TestTrailKeepsTheLastSteps(t *testing.T) {
	t.Parallel()
	in := sentrytest.New(t)
	rt, deliver := reporting(t, in, nil)
	ctx := WithScope(t.Context(), Scope{Execution: "exec_1"})
	inner := WithScope(ctx, Scope{RequestID: "r"})
	for i := range longestTrail + 7 {
		rt.Breadcrumb(inner, "node", fmt.Sprintf("step %d", i), nil)
	}
	rt.Breadcrumb(t.Context(), "node", "on nobody's trail", nil)
	rt.Capture(ctx, errTest)
	crumbs := deliver()[0]["breadcrumbs"].([]any)
	require.Len(t, crumbs, longestTrail)
	require.Equal(t, "step 7", crumbs[0].(map[string]any)["message"])
	require.Equal(t, "step 56", crumbs[longestTrail-1].(map[string]any)["message"])
}

func TestReportsThatCannotBeSent(t *testing.T) {
	t.Parallel()
	in := sentrytest.New(t)
	rt, _ := reporting(t, in, nil)
	in.Close() // nobody listens any more
	rt.Capture(t.Context(), errTest)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	require.NoError(t, rt.Close(ctx), "a Sentry that is away holds nobody up")

	_, err := NewRuntime("testd", Common{LogLevel: "info", SentryDSN: "https://no-project.example.com", SentryEnvironment: "production"})
	require.ErrorContains(t, err, "sentry")
}

// TestLoggedErrorsAreReported: whichever package logs an error, it is reported, with the fields that name a scope as
// tags; warnings are only when they say so.
func TestLoggedErrorsAreReported(t *testing.T) {
	t.Parallel()
	in := sentrytest.New(t)
	rt, deliver := reporting(t, in, func(c *Common) { c.LogLevel = "fatal" })
	rt.Mask("hunter2-of-the-tenant")
	service := rt.Service("catalog")
	service.Log.Warn("slow")
	service.Log.Info("said", zap.Bool(ReportedField, true))
	service.Log.With(zap.String("tenant", "acme"), zap.String("request_id", "req-1")).Named("x").
		Error("command failed", zap.Error(errors.New("hunter2-of-the-tenant is wrong")), zap.String("token", "PLANTED"), zap.Int("tries", 3))
	service.Log.Warn("redis is away", zap.Bool(ReportedField, true))
	service.Log.Error("crashed", zap.String("panic", "oh"), zap.ByteString("stack", []byte("main.go:1")))
	service.Log.Error("ended", zap.Error(context.Canceled))
	ctx := WithScope(t.Context(), Scope{Execution: "exec_1"})
	service.Breadcrumb(ctx, "node", "began", nil)
	service.Logger(ctx).Error("node failed", zap.Error(errTest))
	func() (err error) { defer service.Recover(ctx, &err); panic("oh") }() //nolint:errcheck // only the report counts

	events := deliver()
	require.Len(t, events, 5)
	require.NotContains(t, in.Raw(), "PLANTED")
	require.NotContains(t, in.Raw(), "hunter2")
	failed := events[0]
	require.Equal(t, map[string]any{"service": "catalog", "tenant": "acme", "request_id": "req-1"}, failed["tags"])
	require.Equal(t, "error", failed["level"])
	exceptions := failed["exception"].([]any)
	require.Equal(t, "command failed: ***MASKED*** is wrong", exceptions[len(exceptions)-1].(map[string]any)["value"])
	require.EqualValues(t, 3, failed["contexts"].(map[string]any)["log"].(map[string]any)["tries"])
	require.Equal(t, "warning", events[1]["level"])
	require.Equal(t, "redis is away", events[1]["message"])
	require.Equal(t, "fatal", events[2]["level"])
	require.Equal(t, "exec_1", events[3]["tags"].(map[string]any)["execution_id"])
	require.Len(t, events[3]["breadcrumbs"], 1)
	require.Equal(t, "fatal", events[4]["level"], "the panic, once")
}
