package daemon

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// traceCollector takes traces over OTLP/HTTP at one path.
type traceCollector struct {
	*httptest.Server
	mu        sync.Mutex
	resources []*spans.ResourceSpans
	headers   []http.Header
}

func collectTraces(t *testing.T, path string) *traceCollector {
	t.Helper()
	c := &traceCollector{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var request collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != path || proto.Unmarshal(body, &request) != nil {
			http.Error(w, "no traces", http.StatusBadRequest)
			return
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.resources = append(c.resources, request.GetResourceSpans()...)
		c.headers = append(c.headers, r.Header)
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(c.Close)
	return c
}

// spans lists what came in, by name.
func (c *traceCollector) spans() map[string]*spans.Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	found := map[string]*spans.Span{}
	for _, resource := range c.resources {
		for _, scope := range resource.GetScopeSpans() {
			for _, span := range scope.GetSpans() {
				found[span.GetName()] = span
			}
		}
	}
	return found
}

// tracing is a runtime with these settings, and what to call to have everything delivered.
func tracing(t *testing.T, c Common) (rt *Runtime, deliver func()) {
	t.Helper()
	rt, err := newRuntime("testd", c, &logs{})
	require.NoError(t, err)
	return rt, func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		require.NoError(t, rt.Close(ctx))
	}
}

func TestTracesReachTheCollector(t *testing.T) {
	t.Parallel()
	to := collectTraces(t, "/base/v1/traces")
	c := quiet()
	c.OTLPEndpoint, c.TracesSampling = to.URL+"/base/", 1
	rt, deliver := tracing(t, c)

	// One trace through two services of the process, over headers as on the wire.
	gateway, executor := rt.Service("gateway"), rt.Service("executor")
	ctx, outer := gateway.Tracer.Tracer("test").Start(t.Context(), "request")
	headers := propagation.HeaderCarrier{}
	gateway.Propagator.Inject(ctx, headers)
	require.NotEmpty(t, headers.Get("traceparent"))
	_, inner := executor.Tracer.Tracer("test").Start(executor.Propagator.Extract(t.Context(), headers), "node")
	inner.End()
	outer.End()
	deliver()

	found := to.spans()
	require.Len(t, found, 2)
	require.Equal(t, found["request"].GetTraceId(), found["node"].GetTraceId())
	require.Equal(t, found["request"].GetSpanId(), found["node"].GetParentSpanId())
	services := map[string]bool{}
	for _, resource := range to.resources {
		services[attributeOf(resource.GetResource().GetAttributes(), "service.name")] = true
		require.Equal(t, "test", attributeOf(resource.GetResource().GetAttributes(), "deployment.environment.name"))
		require.Equal(t, Version(), attributeOf(resource.GetResource().GetAttributes(), "service.version"))
	}
	require.Equal(t, map[string]bool{"gateway": true, "executor": true}, services)
}

func attributeOf(attributes []*common.KeyValue, key string) string {
	for _, a := range attributes {
		if a.GetKey() == key {
			return a.GetValue().GetStringValue()
		}
	}
	return ""
}

func TestTracesRespectTheCaller(t *testing.T) {
	t.Parallel()
	to := collectTraces(t, "/v1/traces")
	c := quiet()
	c.OTLPEndpoint, c.TracesSampling = to.URL, 0
	rt, deliver := tracing(t, c)
	tracer := rt.Tracer.Tracer("test")

	_, own := tracer.Start(t.Context(), "own")
	own.End()
	for name, flags := range map[string]string{"wanted": "01", "unwanted": "00"} {
		carrier := propagation.MapCarrier{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-" + flags}
		_, span := tracer.Start(rt.Propagator.Extract(t.Context(), carrier), name)
		span.End()
	}
	deliver()
	require.Len(t, to.spans(), 1)
	require.Contains(t, to.spans(), "wanted")
}

func TestTracesWithoutACollector(t *testing.T) {
	t.Parallel()
	rt, deliver := tracing(t, quiet())
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	ctx := rt.Propagator.Extract(t.Context(), propagation.MapCarrier{"traceparent": parent})
	ctx, span := rt.Tracer.Tracer("test").Start(ctx, "node")
	require.False(t, span.IsRecording())
	out := propagation.MapCarrier{}
	rt.Propagator.Inject(ctx, out)
	require.Equal(t, parent, out["traceparent"], "somebody else's trace passes through")
	span.End()
	deliver()
}

func TestTracesGoToSentryByTheirOwnShare(t *testing.T) {
	t.Parallel()
	all := collectTraces(t, "/v1/traces")
	some := collectTraces(t, "/api/42/integration/otlp/v1/traces/")
	c := quiet()
	c.OTLPEndpoint, c.TracesSampling = all.URL, 1
	c.SentryDSN = strings.Replace(some.URL, "http://", "http://publickey@", 1) + "/42"
	c.SentryEnvironment, c.SentryTracesSampleRate = "development", 0.5
	rt, deliver := tracing(t, c)
	tracer := rt.Tracer.Tracer("test")

	// The share is decided by the trace id: low ids are in, high ids are out.
	for name, id := range map[string]trace.TraceID{"in": {15: 1}, "out": {8: 0xff, 15: 1}} {
		remote := trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, Remote: true})
		_, span := tracer.Start(trace.ContextWithRemoteSpanContext(t.Context(), remote), name)
		span.End()
	}
	deliver()
	require.Len(t, all.spans(), 2)
	require.Len(t, some.spans(), 1)
	require.Contains(t, some.spans(), "in")
	require.Equal(t, "sentry sentry_key=publickey", some.headers[0].Get("X-Sentry-Auth"))
}
