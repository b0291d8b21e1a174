package main

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestTable(t *testing.T) {
	t.Parallel()
	items := []map[string]any{
		{"id": "a", "status": "FAILED", "count": 3.0, "more": map[string]any{"x": 1.0}},
		{"id": "longer", "status": "COMPLETED", "count": nil, "more": "\x1b[2Jgone\n\u202e"},
	}
	draw := func(p paint) string {
		table := newTable(p, "id", "status", "count", "more")
		for _, item := range items {
			table.add(item)
		}
		var b bytes.Buffer
		require.NoError(t, table.write(&b))
		return b.String()
	}
	require.Equal(t, `id      status     count  more
a       FAILED     3      {"x":1}
longer  COMPLETED  -      �[2Jgone��
`, draw(false))
	require.Equal(t, "\x1b[2mid\x1b[0m      \x1b[2mstatus\x1b[0m     \x1b[2mcount\x1b[0m  \x1b[2mmore\x1b[0m\n"+
		"a       \x1b[31mFAILED\x1b[0m     3      {\"x\":1}\n"+
		"longer  \x1b[32mCOMPLETED\x1b[0m  -      �[2Jgone��\n", draw(true))
}
