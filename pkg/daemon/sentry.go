package daemon

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/getsentry/sentry-go"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"
)

// newSentry returns a client of this runtime's own, or nil when nothing is to be reported.
func newSentry(c Common, m *masks) (*sentry.Client, error) {
	rate := c.sampleRate()
	// A SampleRate of 0 means 1 to the library, and an empty DSN means os.Getenv: neither may reach it.
	if c.SentryDSN == "" || rate <= 0 {
		return nil, nil //nolint:nilnil // no client is an answer: reporting is off
	}
	scrub := scrubber{m}
	client, err := sentry.NewClient(sentry.ClientOptions{
		Dsn:              c.SentryDSN,
		Environment:      c.SentryEnvironment,
		Release:          c.release(),
		SampleRate:       rate,
		AttachStacktrace: true,
		BeforeSend:       scrub.event,
	})
	if err != nil {
		return nil, fmt.Errorf("sentry: %w", err)
	}
	// Reports carry the ids of the OpenTelemetry trace they happened in.
	client.SetExternalContextTraceResolver(func(ctx context.Context) (sentry.TraceID, sentry.SpanID, bool) {
		span := trace.SpanContextFromContext(ctx)
		return sentry.TraceID(span.TraceID()), sentry.SpanID(span.SpanID()), span.IsValid()
	})
	return client, nil
}

func (c Common) release() string {
	if c.SentryRelease != "" {
		return c.SentryRelease
	}
	return "agentflow@" + Version()
}

// Capture reports err with the scope, trail and trace of ctx. It does not log; what is logged as an error is reported
// by itself. A cancelled context is not worth a
// report, and a *PanicError has had its own.
func (rt *Runtime) Capture(ctx context.Context, err error) {
	var panicked *PanicError
	if rt.sentry == nil || err == nil || errors.Is(err, context.Canceled) || errors.As(err, &panicked) {
		return
	}
	rt.sentry.CaptureException(err, &sentry.EventHint{Context: ctx, OriginalException: err}, rt.sentryScope(ctx))
}

// Reporting tells whether errors are reported at all.
func (rt *Runtime) Reporting() bool { return rt.sentry != nil }

// Breadcrumb notes a step on the way, for the report should an error follow. It costs nothing when reporting is
// off, or when ctx has no scope.
func (rt *Runtime) Breadcrumb(ctx context.Context, category, message string, data map[string]any) {
	t := trailOf(ctx)
	if rt.sentry == nil || t == nil {
		return
	}
	t.add(&sentry.Breadcrumb{
		Category:  category,
		Message:   message,
		Data:      data,
		Level:     sentry.LevelInfo,
		Timestamp: time.Now().UTC(),
	})
}

func (rt *Runtime) sentryScope(ctx context.Context) *sentry.Scope {
	scope := sentry.NewScope()
	scope.SetTag("service", rt.Name)
	ScopeOf(ctx).each(scope.SetTag)
	for _, crumb := range trailOf(ctx).all() {
		scope.AddBreadcrumb(crumb, longestTrail)
	}
	return scope
}

// PanicError is a panic that was turned into an error.
type PanicError struct {
	Value any
	Stack []byte // of the goroutine that panicked
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Unwrap is the panic's value, when that is an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// Recover turns a panic into *err, a *PanicError, after logging it with its stack and reporting it. Defer it
// directly, with the address of a named result:
//
//	defer rt.Recover(ctx, &err)
func (rt *Runtime) Recover(ctx context.Context, err *error) {
	value := recover()
	if value == nil {
		return
	}
	stack := debug.Stack()
	*err = &PanicError{Value: value, Stack: stack}
	rt.panics.Inc()
	rt.scopedLog(ctx).Error("panic", zap.Any("value", fmt.Sprint(value)), zap.ByteString("stack", stack))
	if rt.sentry != nil {
		rt.sentry.RecoverWithContext(ctx, value, &sentry.EventHint{RecoveredException: value}, rt.sentryScope(ctx))
	}
}
