package main

import (
	"bytes"
	"os"
	"testing"

	"github.com/stretchr/testify/require"
)

// openTerminal is a terminal nobody looks at.
func openTerminal(t *testing.T) *os.File {
	t.Helper()
	terminal, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, terminal.Close()) })
	return terminal
}

// Colours are for terminals that want them: neither NO_COLOR nor a dumb one does.
func TestPaint(t *testing.T) {
	t.Parallel()
	terminal := openTerminal(t)
	for name, c := range map[string]struct {
		env  []string
		want paint
	}{
		"terminal": {nil, true},
		"NO_COLOR": {[]string{"NO_COLOR=1"}, false},
		"empty":    {[]string{"NO_COLOR="}, true},
		"dumb":     {[]string{"TERM=dumb"}, false},
	} {
		require.Equal(t, c.want, (&process{environ: c.env, stdout: terminal}).paint(), name)
	}
	require.False(t, bool((&process{stdout: &bytes.Buffer{}}).paint()))
}
