package source

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFillJSON(t *testing.T) {
	v := values("n", json.Number("7"), "s", "x", "list", []any{"a"}, "nothing", nil)
	got, err := fillJSON(map[string]any{
		"{s}": "{s}", "n": "{n}", "text": "n={n}", "deep": []any{map[string]any{"l": "{list}"}}, "null": "{nothing}",
		"unknown": "{who}", "bool": true, "braces": `{ "a": 1 }`,
	}, v)
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"{s}": "x", "n": json.Number("7"), "text": "n=7", "deep": []any{map[string]any{"l": []any{"a"}}}, "null": nil,
		"unknown": "{who}", "bool": true, "braces": `{ "a": 1 }`,
	}, got)
}

func TestFillJSONIsBounded(t *testing.T) {
	v := values("big", strings.Repeat("x", 1<<20), "biglist", []any{strings.Repeat("x", 1<<20)})
	for _, text := range []string{"{big}", "a {big}", "{biglist}"} {
		body := []any{}
		for range 10 {
			body = append(body, text)
		}
		_, err := fillJSON(body, v)
		require.ErrorContains(t, err, "larger than", text)
	}
	var deep any = "x"
	for range 2 * maxDepth {
		deep = []any{deep}
	}
	_, err := fillJSON(deep, v)
	require.ErrorContains(t, err, "deep")
}
