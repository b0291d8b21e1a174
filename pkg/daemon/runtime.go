package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"

	"github.com/getsentry/sentry-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// Set by the linker: -X github.com/agentflow/agentflow/pkg/daemon.version=1.2.3, and commit alike.
var version, commit string

// Version is the version of this build; "dev" when nobody named one.
func Version() string { return cmp.Or(version, "dev") }

// revision is the commit this binary was built from; "unknown" when nobody recorded it.
func revision() string {
	if info, ok := debug.ReadBuildInfo(); ok && commit == "" {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return cmp.Or(commit, "unknown")
}

// Runtime is what surrounds the work of one service. Everything in it belongs to this runtime or to the one it
// came from; nothing is global.
type Runtime struct {
	Name    string
	Version string
	Log     *zap.Logger     // what it logs at level error is reported to Sentry too
	Level   zap.AtomicLevel // of Log, changeable at any time
	// Metrics registers collectors; each metric gets the label service with this runtime's name. Names begin
	// with agentflow_, and no label may take tenants, executions or anything else without bound as values.
	Metrics prometheus.Registerer
	Tracer  trace.TracerProvider
	// Propagator carries the trace over HTTP headers and message headers (W3C Trace Context). It leaves baggage
	// alone: what a client put there has no business in our calls to others.
	Propagator propagation.TextMapPropagator
	Health     *Health

	config   Common
	base     *zap.Logger // Log before it had a name
	plain    *zap.Logger // Log, whose errors are not reported
	masks    *masks
	registry *prometheus.Registry
	panics   prometheus.Counter
	sentry   *sentry.Client // nil when reporting is off
	traces   *traces
	owner    bool // of the doors above, which Close closes
}

// NewRuntime builds what surrounds a process, and logs to stderr.
func NewRuntime(name string, c Common) (*Runtime, error) { return newRuntime(name, c, os.Stderr) }

func newRuntime(name string, c Common, stderr io.Writer) (*Runtime, error) {
	m := newMasks()
	log, level, err := newLogger(c, stderr, m)
	if err != nil {
		return nil, err
	}
	client, err := newSentry(c, m)
	if err != nil {
		return nil, err
	}
	spans, err := newTraces(context.Background(), c)
	if err != nil {
		if client != nil {
			client.Close()
		}
		return nil, err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(),
	)
	rt := &Runtime{
		Version:    Version(),
		Level:      level,
		Propagator: propagation.TraceContext{},
		Health:     newHealth(registry),
		config:     c,
		base:       log,
		masks:      m,
		registry:   registry,
		sentry:     client,
		traces:     spans,
		owner:      true,
	}
	rt.name(name)
	rt.Mask(c.SentryDSN)
	return rt, nil
}

// name gives rt the things that bear its name.
func (rt *Runtime) name(name string) {
	rt.Name = name
	rt.plain = rt.base.With(zap.String("service", name), zap.String("version", rt.Version))
	rt.Log = rt.reported(context.Background(), rt.plain)
	rt.Tracer = rt.traces.provider(name)
	rt.Metrics = prometheus.WrapRegistererWith(prometheus.Labels{"service": name}, rt.registry)
	rt.panics = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "agentflow_panics_total",
		Help: "Panics that were caught and turned into errors.",
	})
	rt.Metrics.MustRegister(rt.panics)
}

// Service is a runtime for one of several services in this process. It shares the log, the registry, the admin
// port, the health and the doors of rt under a name of its own, and ends with rt: closing it does nothing.
func (rt *Runtime) Service(name string) *Runtime {
	child := *rt
	child.owner = false
	child.Health = rt.Health.within(name)
	child.name(name)
	return &child
}

func buildInfo() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentflow_build_info",
		Help: "Always 1; the labels say what runs.",
		ConstLabels: prometheus.Labels{
			"version": Version(), "revision": revision(), "goversion": runtime.Version(),
		},
	}, func() float64 { return 1 })
}

// Logger is Log with the scope of ctx, and the id of its trace; its reports have the trail of ctx.
func (rt *Runtime) Logger(ctx context.Context) *zap.Logger {
	return rt.reported(ctx, rt.scopedLog(ctx))
}

// scopedLog is Logger, whose errors are not reported.
func (rt *Runtime) scopedLog(ctx context.Context) *zap.Logger {
	fields := ScopeOf(ctx).Fields()
	if span := trace.SpanContextFromContext(ctx); span.HasTraceID() {
		fields = append(fields, zap.String("trace_id", span.TraceID().String()))
	}
	if len(fields) == 0 {
		return rt.plain
	}
	return rt.plain.With(fields...)
}

// Mask keeps values out of logs and error reports from now on. Values under six characters stay visible.
func (rt *Runtime) Mask(values ...string) { rt.masks.add(values...) }

// Scrub is text without the masked values and without what looks like a secret, for places of its own such as
// API answers and events.
func (rt *Runtime) Scrub(text string) string { return scrubber{rt.masks}.text(text) }

// Close sends what is left of traces and error reports, within ctx.
func (rt *Runtime) Close(ctx context.Context) error {
	if !rt.owner {
		return nil
	}
	var errs []error
	errs = append(errs, rt.Health.wait(ctx), rt.traces.close(ctx))
	if rt.sentry != nil {
		if !rt.sentry.FlushWithContext(ctx) {
			errs = append(errs, errors.New("flush error reports: not all were sent"))
		}
		rt.sentry.Close()
	}
	_ = rt.Log.Sync() // stderr cannot be synced everywhere, and there is nowhere left to say so
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close %s: %w", rt.Name, err)
	}
	return nil
}
