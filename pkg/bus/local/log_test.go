package local

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestTheServersLevels: its notices are our details, and what is fatal to it does not end the process it lives in.
func TestTheServersLevels(t *testing.T) {
	core, logs := observer.New(zap.DebugLevel)
	l := serverLog{zap.New(core).Sugar(), make(chan error, 1)}
	for want, say := range map[zapcore.Level][]func(string, ...any){
		zap.DebugLevel: {l.Noticef, l.Debugf}, zap.WarnLevel: {l.Warnf}, zap.ErrorLevel: {l.Errorf, l.Fatalf},
	} {
		for _, f := range say {
			f("port %d", 4222)
		}
		said := logs.TakeAll()
		require.Len(t, said, len(say))
		for _, line := range said {
			require.Equal(t, want, line.Level)
			require.Equal(t, "port 4222", line.Message)
		}
	}
	l.Tracef("every byte")
	require.Zero(t, logs.Len())
}
