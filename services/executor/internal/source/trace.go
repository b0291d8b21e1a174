package source

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// span begins a client span. It carries names and counts, and never a prompt, a body, a query or
// an address that a value had a part in.
func (c *call) span(ctx context.Context, name string, attributes ...attribute.KeyValue) (context.Context, trace.Span) {
	attributes = append(attributes, attribute.String("agentflow.source.kind", c.source.Kind), attribute.String("agentflow.source.id", c.source.ID))
	return c.tracer.Start(ctx, name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(attributes...))
}

// end closes a span with the class of what went wrong, if anything did.
func end(span trace.Span, err error) {
	if class := ClassOf(err); class != "" {
		span.SetAttributes(attribute.String("error.type", string(class)))
		span.SetStatus(codes.Error, string(class))
	}
	span.End()
}

// asked describes a question by the conventions for generative AI.
func (c *call) asked(q question) []attribute.KeyValue {
	out := []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", "chat"),
		attribute.String("gen_ai.provider.name", c.provider),
		attribute.String("gen_ai.request.model", q.model),
		attribute.Int("gen_ai.request.max_tokens", q.maxTokens),
		attribute.Bool("gen_ai.request.stream", q.progress != nil),
	}
	if q.temperature != nil {
		out = append(out, attribute.Float64("gen_ai.request.temperature", *q.temperature))
	}
	return out
}

func answered(a answer) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("gen_ai.response.model", a.model),
		attribute.StringSlice("gen_ai.response.finish_reasons", []string{a.finish}),
		attribute.Int64("gen_ai.usage.input_tokens", a.usage.InputTokens),
		attribute.Int64("gen_ai.usage.output_tokens", a.usage.OutputTokens),
	}
}
