package local

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

func TestOutputIsLoggedLineByLine(t *testing.T) {
	core, logs := observer.New(zapcore.DebugLevel)
	out := newOutput(zap.New(core), postgresLevel)
	out.loud.Store(true)
	write := func(text string) {
		n, err := out.Write([]byte(text))
		require.NoError(t, err)
		require.Equal(t, len(text), n)
	}
	write("LOG:  rea")
	write("dy\r\n\nWARNING:  look\nERROR:  yours\nFATAL:  ")
	write("gone")
	out.flush()
	out.loud.Store(false)
	write("FATAL:  on purpose\n")

	var got []string
	for _, entry := range logs.All() {
		got = append(got, entry.Level.String()+" "+entry.Message)
	}
	require.Equal(t, []string{
		"debug LOG:  ready", "warn WARNING:  look", "debug ERROR:  yours", "warn FATAL:  gone", "debug FATAL:  on purpose",
	}, got)
}

func TestOutputKeepsTheLastLines(t *testing.T) {
	out := newOutput(zap.NewNop(), postgresLevel)
	require.Empty(t, out.quote())
	for i := range 100 {
		_, err := fmt.Fprintf(out, "line %d\n", i)
		require.NoError(t, err)
	}
	lines := strings.Split(out.quote(), "\n")
	require.Len(t, lines, tailLines+1)
	require.Equal(t, "  line 99", lines[tailLines])
	require.True(t, out.contains("line 80"))
	require.False(t, out.contains("line 79"))

	_, err := out.Write([]byte(strings.Repeat("x", 10*lineLimit)))
	require.NoError(t, err)
	require.Empty(t, out.partial, "a line without end is cut")
}
