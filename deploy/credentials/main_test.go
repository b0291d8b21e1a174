package main

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
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

// TestStoresElsewhere: URLs that somebody has put there survive the run that renews a certificate; naming a host replaces them.
func TestStoresElsewhere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	urls := []string{"migrate/database-url", "catalog/database-url", "limiter/redis-url"}
	require.NoError(t, run([]string{"--out", dir}, io.Discard))
	for i, name := range urls {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(content), []string{"@postgres:5432/", "@postgres:5432/", "@redis:6379/"}[i])
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte("elsewhere"), 0o600))
	}
	require.NoError(t, run([]string{"--out", dir}, io.Discard))
	for _, name := range urls {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, "elsewhere", string(content), name)
	}
	require.NoError(t, run([]string{"--out", dir, "--postgres", "db:1", "--redis", "counters:2"}, io.Discard))
	for i, name := range urls {
		content, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Contains(t, string(content), []string{"@db:1/", "@db:1/", "@counters:2/"}[i])
	}
}

// TestOwner: the folders, and those named beside them, belong to whom the services run as.
func TestOwner(t *testing.T) {
	uid, gid := os.Getuid(), os.Getgid()
	if uid == 0 {
		uid, gid = 4711, 4712 // who may, gives them away
	}
	dir, volume := t.TempDir(), t.TempDir()
	file := filepath.Join(volume, "data")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	owner := fmt.Sprintf("%d:%d", uid, gid)
	require.NoError(t, run([]string{"--out", dir, "--own", volume, "--owner", owner}, io.Discard))
	for _, path := range []string{dir, filepath.Join(dir, "gateway", "admin-key"), volume, file} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		stat, ok := info.Sys().(*syscall.Stat_t)
		require.True(t, ok)
		require.EqualValues(t, uid, stat.Uid, path)
		require.EqualValues(t, gid, stat.Gid, path)
	}
	require.ErrorIs(t, run([]string{"--out", dir, "--own", filepath.Join(volume, "missing"), "--owner", owner}, io.Discard), fs.ErrNotExist)
	for _, wrong := range []string{"1", "x:1", "1:x"} {
		require.ErrorContains(t, run([]string{"--out", dir, "--owner", wrong}, io.Discard), "--owner")
	}
}

// TestWhatCannotBeKept: a place that cannot be written ends it, rather than a secret that only memory knows.
func TestWhatCannotBeKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	require.Error(t, run([]string{"--out", file}, io.Discard))

	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "redis", "password"), 0o700)) // a folder where a file belongs
	require.Error(t, run([]string{"--out", dir}, io.Discard))
	require.Error(t, write(dir, "redis/password", "x"))
	require.Error(t, write(file, "name", "x"))
}
