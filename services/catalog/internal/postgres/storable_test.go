package postgres

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local/localtest"
)

func TestSearch(t *testing.T) {
	t.Parallel()
	require.Equal(t, "grösse: ein test ß σ", SearchText("GRÖSSE:\tEin", " Test ẞ\x00 Σ"))
	require.Equal(t, []string{"ab", "ba"}, Grams("abab"))
	require.Empty(t, Grams("a"))
	require.Equal(t, `%50\%\_\\%`, pattern(`50%_\`))
	long := SearchText("n", strings.Repeat("é", 100_000))
	require.LessOrEqual(t, len([]rune(long)), searchable+2)
}

func TestStorable(t *testing.T) {
	t.Parallel()
	_, owner := open(t, localtest.Postgres(t), Config{})
	for _, raw := range []string{
		`{}`, `null`, `"x"`, `{"a":"\u0000"}`, `{"\u0000":"\\u0000"}`, `["\ud800\udc00","\ud800","\udc00"]`, `1e400000`, `-1E-999999`, `1e5`, `1.5E+3`,
		strings.Repeat("9", 140_000), strings.Repeat("[", 9000) + strings.Repeat("]", 9000), `{"a":"` + "\xff" + `"}`, `{`, ``, `{"a":1}x`,
		`"` + strings.Repeat(`\"`, 50) + `"`, `{"e":1,"E":2,"x":"1e5"}`,
	} {
		out := JSON(json.RawMessage(raw))
		var back string
		require.NoError(t, owner.pool.QueryRow(t.Context(), "select $1::text::jsonb::text", string(out)).Scan(&back), "%.60s", raw)
		require.Equal(t, string(out), string(JSON(out)), "what is storable stays as it is: %.60s", raw)
	}
	plain := `{"a": [1, 2.50, true, null, "ü \n \u00e9"]}`
	require.Equal(t, plain, string(JSON(json.RawMessage(plain))), "byte for byte")
	for in, want := range map[string]string{"": "0", "1": "1", "-0.50": "-0.50", "1e5": "0", "NaN": "0", "1.": "0", ".5": "0", "0x1": "0"} {
		require.Equal(t, want, Decimal(in), in)
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	p := position{time.Date(2026, 1, 2, 3, 4, 5, 678_000_000, time.UTC), "exec_é/x"}
	got, ok := decodeCursor(encodeCursor(p))
	require.True(t, ok)
	require.Equal(t, p, got)
	for _, bad := range []string{"", "x", "!!!", encodeCursor(position{time.Unix(-1, 0), "x"}), encodeCursor(position{time.Unix(1<<40, 0), "x"}), encodeCursor(position{p.at, "a\x00"})} {
		_, ok := decodeCursor(bad)
		require.False(t, ok, bad)
	}
}
