package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/getsentry/sentry-go"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// ReportedField marks a warning that is a report all the same. Packages that know nothing of this one write it as
// zap.Bool("reported", true).
const ReportedField = "reported"

// reported is log, whose entries at level error and above are reports to Sentry as well: what is worth an error in
// the log is worth one there, from whichever package it comes. Warnings are when they bear ReportedField.
func (rt *Runtime) reported(ctx context.Context, log *zap.Logger) *zap.Logger {
	if rt.sentry == nil {
		return log
	}
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core {
		return zapcore.NewTee(c, &reportCore{rt: rt, ctx: ctx})
	}))
}

// reportCore is a zapcore.Core that sends entries to Sentry.
type reportCore struct {
	rt     *Runtime
	ctx    context.Context //nolint:containedctx // names on whose behalf the logger was made; it ends nothing
	fields []zapcore.Field
}

var _ zapcore.Core = (*reportCore)(nil)

// Enabled tells whether entries of a level may be reported, whatever the level of the log is.
func (c *reportCore) Enabled(l zapcore.Level) bool { return l >= zapcore.WarnLevel }

// With is the core of a logger with more fields.
func (c *reportCore) With(fields []zapcore.Field) zapcore.Core {
	more := *c
	more.fields = append(append([]zapcore.Field(nil), c.fields...), fields...)
	return &more
}

// Check adds the core to those that want the entry.
func (c *reportCore) Check(e zapcore.Entry, checked *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return checked.AddCore(e, c)
	}
	return checked
}

// Write reports an entry: its error if it has one, else its message. The fields that name a scope become tags, the
// others go along, scrubbed as everything is.
func (c *reportCore) Write(e zapcore.Entry, fields []zapcore.Field) error {
	level := sentry.LevelError
	if e.Level < zapcore.ErrorLevel {
		if !slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == ReportedField }) {
			return nil
		}
		level = sentry.LevelWarning
	}
	var cause error
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(append([]zapcore.Field(nil), c.fields...), fields...) {
		f.AddTo(enc)
		if err, ok := f.Interface.(error); ok && f.Type == zapcore.ErrorType {
			cause = err
		}
	}
	var panicked *PanicError
	if errors.Is(cause, context.Canceled) || errors.As(cause, &panicked) {
		return nil // as with Capture
	}
	scope := c.rt.sentryScope(c.ctx)
	if _, crashed := enc.Fields["stack"]; crashed {
		level = sentry.LevelFatal
	}
	scope.SetLevel(level)
	delete(enc.Fields, ReportedField)
	for _, name := range []string{"request_id", "tenant", "workflow_id", "execution_id"} {
		if value, ok := enc.Fields[name].(string); ok {
			scope.SetTag(name, value)
			delete(enc.Fields, name)
		}
	}
	if len(enc.Fields) > 0 {
		scope.SetContext("log", enc.Fields)
	}
	if cause == nil {
		c.rt.sentry.CaptureMessage(e.Message, &sentry.EventHint{Context: c.ctx}, scope)
		return nil
	}
	cause = fmt.Errorf("%s: %w", e.Message, cause)
	c.rt.sentry.CaptureException(cause, &sentry.EventHint{Context: c.ctx, OriginalException: cause}, scope)
	return nil
}

// Sync has nothing to do: reports are sent in the background, and Runtime.Close waits for them.
func (c *reportCore) Sync() error { return nil }
