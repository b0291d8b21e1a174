package daemon

import (
	"fmt"
	"io"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// newLogger writes log lines to w, one write a line, and returns the level that decides which.
func newLogger(c Common, w io.Writer, m *masks) (*zap.Logger, zap.AtomicLevel, error) {
	level, err := zap.ParseAtomicLevel(c.LogLevel)
	if err != nil {
		return nil, level, fmt.Errorf("log level: %w", err)
	}
	keys := zapcore.EncoderConfig{
		TimeKey:       "time",
		LevelKey:      "level",
		NameKey:       "logger",
		MessageKey:    "msg",
		StacktraceKey: "stack",
		LineEnding:    zapcore.DefaultLineEnding,
		EncodeLevel:   zapcore.LowercaseLevelEncoder,
		EncodeTime: func(t time.Time, enc zapcore.PrimitiveArrayEncoder) {
			enc.AppendString(t.UTC().Format("2006-01-02T15:04:05.000Z07:00"))
		},
		EncodeDuration: zapcore.StringDurationEncoder,
	}
	encoder := zapcore.NewJSONEncoder(keys)
	if c.LogFormat == "console" {
		encoder = zapcore.NewConsoleEncoder(keys)
	}
	sink := zapcore.Lock(zapcore.AddSync(&maskedWriter{w: w, masks: m}))
	return zap.New(zapcore.NewCore(encoder, sink, level), zap.ErrorOutput(sink)), level, nil
}
