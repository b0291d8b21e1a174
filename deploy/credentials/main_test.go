package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRun: the folders hold what each service needs, a second run changes no secret, and what belongs together fits.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return strings.TrimSpace(string(content))
	}
	args := []string{"--out", dir, "--host", "nats", "--postgres", "db.example:5433", "--tenant", "acme"}
	var out bytes.Buffer
	require.NoError(t, run(args, &out))
	files := []string{
		"postgres/password", "redis/password", "redis/redis.conf", "gateway/admin-key", "gateway/nats.nk", "catalog/database-url", "catalog/nats.nk",
		"migrate/database-url", "migrate/service-password", "limiter/redis-url", "limiter/nats.nk", "executor/nats.nk", "tenant-acme/nats.nk",
	}
	before := map[string]string{}
	for _, f := range files {
		before[f] = read(f)
	}
	require.Len(t, before["gateway/admin-key"], 64)
	require.Equal(t, "postgres://agentflow:"+before["postgres/password"]+"@db.example:5433/agentflow?sslmode=disable", before["migrate/database-url"])
	require.Contains(t, before["catalog/database-url"], "//agentflow_service:"+before["migrate/service-password"]+"@")
	require.NotContains(t, before["catalog/database-url"], before["postgres/password"], "the service does not have the owner's login")
	require.Contains(t, before["limiter/redis-url"], before["redis/password"])
	require.Contains(t, before["redis/redis.conf"], "requirepass "+before["redis/password"])

	require.NoError(t, run(args, &out))
	for _, f := range files {
		require.Equal(t, before[f], read(f), f)
	}
	out.Reset()
	require.NoError(t, run([]string{"--out", dir, "--show", "gateway/admin-key"}, &out))
	require.Equal(t, before["gateway/admin-key"], strings.TrimSpace(out.String()))

	require.Error(t, run([]string{"--out", dir, "--show", "../etc/passwd"}, &out))
	require.Error(t, run([]string{"--out", dir, "--owner", "root"}, &out))
	require.Error(t, run([]string{"--out", dir, "--tenant", "*"}, &out))
	require.Error(t, run([]string{"more"}, &out))
}
