package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/getsentry/sentry-go"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"
)

// traces sends spans to where the configuration says, for every service of the process.
type traces struct {
	config     Common
	processors []sdktrace.SpanProcessor
	sampler    sdktrace.Sampler
}

// newTraces connects nothing yet: an exporter dials when it has something to send, and drops spans when nobody
// listens.
func newTraces(ctx context.Context, c Common) (*traces, error) {
	type target struct {
		rate float64
		opts []otlptracehttp.Option
	}
	var targets []target
	if c.OTLPEndpoint != "" {
		url := strings.TrimRight(c.OTLPEndpoint, "/") + "/v1/traces"
		targets = append(targets, target{c.TracesSampling, []otlptracehttp.Option{otlptracehttp.WithEndpointURL(url)}})
	}
	if c.SentryDSN != "" && c.SentryTracesSampleRate > 0 {
		dsn, err := sentry.NewDsn(c.SentryDSN)
		if err != nil {
			return nil, fmt.Errorf("sentry: %w", err)
		}
		targets = append(targets, target{c.SentryTracesSampleRate, []otlptracehttp.Option{
			otlptracehttp.WithEndpointURL(sentryTraces(dsn)),
			otlptracehttp.WithHeaders(map[string]string{"X-Sentry-Auth": "sentry sentry_key=" + dsn.GetPublicKey()}),
		}})
	}
	most := 0.0
	for _, to := range targets {
		most = max(most, to.rate)
	}
	t := &traces{config: c, sampler: sdktrace.ParentBased(sdktrace.TraceIDRatioBased(most))}
	for _, to := range targets {
		var exporter sdktrace.SpanExporter
		exporter, err := otlptrace.New(ctx, otlptracehttp.NewClient(to.opts...))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("trace exporter: %w", err), t.close(ctx))
		}
		if to.rate < most {
			exporter = share{exporter, sdktrace.TraceIDRatioBased(to.rate)}
		}
		t.processors = append(t.processors, sdktrace.NewBatchSpanProcessor(exporter))
	}
	return t, nil
}

// sentryTraces is where Sentry takes OTLP for the project of dsn.
func sentryTraces(dsn *sentry.Dsn) string {
	envelopes := dsn.GetAPIURL().String() // …/api/<project>/envelope/
	return strings.TrimSuffix(strings.TrimSuffix(envelopes, "/"), "/envelope") + "/integration/otlp/v1/traces/"
}

// provider makes spans in the name of a service. Without a place to send them it makes none, and an incoming
// trace passes through untouched.
func (t *traces) provider(service string) trace.TracerProvider {
	if len(t.processors) == 0 {
		return noop.NewTracerProvider()
	}
	opts := []sdktrace.TracerProviderOption{
		sdktrace.WithSampler(t.sampler),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", service),
			attribute.String("service.namespace", "agentflow"),
			attribute.String("service.version", Version()),
			attribute.String("deployment.environment.name", t.config.SentryEnvironment),
		)),
	}
	for _, p := range t.processors {
		opts = append(opts, sdktrace.WithSpanProcessor(p))
	}
	return sdktrace.NewTracerProvider(opts...)
}

// close sends what is left, for every provider.
func (t *traces) close(ctx context.Context) error {
	var errs []error
	for _, p := range t.processors {
		if err := p.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("flush traces: %w", err))
		}
	}
	return errors.Join(errs...)
}

// share exports a share of the traces, whole ones: the choice depends on the trace id alone. Two exporters may
// want different shares of what one sampler let through.
type share struct {
	sdktrace.SpanExporter
	ratio sdktrace.Sampler
}

func (s share) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	kept := make([]sdktrace.ReadOnlySpan, 0, len(spans))
	for _, span := range spans {
		if s.wants(span) {
			kept = append(kept, span)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return s.SpanExporter.ExportSpans(ctx, kept)
}

func (s share) wants(span sdktrace.ReadOnlySpan) bool {
	result := s.ratio.ShouldSample(sdktrace.SamplingParameters{TraceID: span.SpanContext().TraceID()})
	return result.Decision == sdktrace.RecordAndSample
}
