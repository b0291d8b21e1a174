package bench

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestChildEnviron(t *testing.T) {
	t.Parallel()
	env := childEnviron([]string{
		"PATH=/bin", "DATABASE_URL=postgres://x", "REDIS_URL_FILE=/x", "AUTH_REQUIRED=true", "LOG_LEVEL=info", "EXECUTOR_CONCURRENCY=9",
	}, "127.0.0.1:1")
	require.Equal(t, []string{"LOG_LEVEL=error", "PATH=/bin", "LOG_LEVEL=info", "EXECUTOR_CONCURRENCY=9", "ADMIN_ADDR=127.0.0.1:1"}, env)
}

func TestChildThatDoesNotStart(t *testing.T) {
	t.Parallel()
	_, err := startChild(t.Context(), Options{Program: []string{"/does/not/exist"}, Durability: "interval"}, t.TempDir())
	require.ErrorContains(t, err, "start a platform")
	_, err = startChild(t.Context(), Options{Program: []string{"/bin/sh", "-c", "echo it broke >&2; exit 3"}, Durability: "interval"}, t.TempDir())
	require.ErrorContains(t, err, "exit status 3; its last words:\nit broke")
	_, err = startChild(t.Context(), Options{Program: []string{"/bin/sh", "-c", "echo hello; exec sleep 60"}, Durability: "interval"}, t.TempDir())
	require.ErrorContains(t, err, `it said "hello\n"`)
}

func TestTail(t *testing.T) {
	t.Parallel()
	var end tail
	require.Empty(t, end.quote())
	for range 1000 {
		_, err := end.Write([]byte(strings.Repeat("x", 99) + "\n"))
		require.NoError(t, err)
	}
	_, err := end.Write([]byte("last"))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(end.quote(), "x\nlast"))
	require.LessOrEqual(t, len(end.quote()), 5000)
}
