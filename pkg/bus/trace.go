package bus

import (
	"context"
	"time"

	"github.com/nats-io/nats.go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentflow/agentflow/pkg/protocol"
)

var propagator = propagation.TraceContext{}

// headerCarrier adapts message headers, whose keys NATS keeps as they are written.
type headerCarrier nats.Header

func (c headerCarrier) Get(key string) string { return nats.Header(c).Get(key) }
func (c headerCarrier) Set(key, value string) { nats.Header(c).Set(key, value) }
func (c headerCarrier) Keys() []string {
	keys := make([]string, 0, len(c))
	for k := range c {
		keys = append(keys, k)
	}
	return keys
}

var _ propagation.TextMapCarrier = headerCarrier(nil)

func injectTrace(ctx context.Context, h nats.Header) { propagator.Inject(ctx, headerCarrier(h)) }

func extractTrace(ctx context.Context, h nats.Header) context.Context {
	return propagator.Extract(ctx, headerCarrier(h))
}

// Trace begins a span if ctx belongs to a trace that is recorded, and returns what ends it. Nothing begins a trace here:
// requests do, at the gateway, and of those that are not sampled nothing may cost.
func (b *Bus) Trace(ctx context.Context, name string, kind trace.SpanKind, about ...attribute.KeyValue) (context.Context, func(error)) {
	if !trace.SpanContextFromContext(ctx).IsSampled() {
		return ctx, func(error) {}
	}
	ctx, span := b.tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithAttributes(about...))
	return ctx, func(err error) {
		if err != nil {
			// The code alone: what an error says may hold what a user wrote.
			code := string(protocol.CodeOf(err))
			span.SetAttributes(attribute.String("error.type", code))
			span.SetStatus(codes.Error, code)
		}
		span.End()
	}
}

// traced is the trace that a message of a log was written in.
func traced(h nats.Header) trace.SpanContext {
	if len(h["traceparent"]) == 0 {
		return trace.SpanContext{}
	}
	return trace.SpanContextFromContext(extractTrace(context.Background(), h))
}

// TraceProjected records for each message of a batch that belongs to a recorded trace that it was projected, and how long
// the batch took.
func (b *Bus) TraceProjected(batch []LogMessage, began time.Time) {
	for i := range batch {
		m := &batch[i]
		if !m.Trace.IsSampled() {
			continue
		}
		ctx := trace.ContextWithRemoteSpanContext(context.Background(), m.Trace)
		about := []attribute.KeyValue{attribute.Int("messaging.batch.message_count", len(batch))}
		if m.Catalog == nil {
			about = append(about, attribute.String("agentflow.tenant", string(m.Key.Tenant)), attribute.String("agentflow.execution_id", string(m.Key.ID)))
		}
		_, span := b.tracer.Start(ctx, "project", trace.WithSpanKind(trace.SpanKindConsumer), trace.WithTimestamp(began), trace.WithAttributes(about...))
		span.End()
	}
}
