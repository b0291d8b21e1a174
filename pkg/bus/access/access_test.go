package access_test

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/nats-io/nkeys"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func prepare(t *testing.T, dir string, o access.Options) {
	t.Helper()
	require.NoError(t, access.Prepare(dir, o))
}

func read(t *testing.T, path ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	require.NoError(t, err)
	return string(content)
}

// Prepared again, a folder keeps its keys and its certificates; a tenant that comes later gets a key beside them.
func TestPrepareKeepsWhatStands(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prepare(t, dir, access.Options{Hosts: []string{"nats"}})
	files := []string{"gateway/nats.nk", "gateway/ca.pem", "limiter/nats.nk", "admin/nats.nk", "nats/server.pem", "nats/server-key.pem"}
	before := map[string]string{}
	for _, f := range files {
		before[f] = read(t, dir, f)
		info, err := os.Stat(filepath.Join(dir, f))
		require.NoError(t, err)
		require.Zero(t, info.Mode().Perm()&0o077, "%s is nobody else's", f)
	}
	require.NotContains(t, read(t, dir, "nats", "users.conf"), "tenant-acme")

	prepare(t, dir, access.Options{Hosts: []string{"nats"}, Tenants: []protocol.TenantID{"acme"}})
	for _, f := range files {
		require.Equal(t, before[f], read(t, dir, f), f)
	}
	rules := read(t, dir, "nats", "users.conf")
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(read(t, dir, "tenant-acme", "nats.nk"))))
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	require.Contains(t, rules, "# tenant-acme\n      { nkey: "+public)
	require.NotRegexp(t, `\bSU[A-Z2-7]{40,}`, rules, "no seed stands among the rules")
}

// A certificate that does not name a host is of no use to its clients: it is made anew.
func TestPrepareRenewsForANewHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	prepare(t, dir, access.Options{Hosts: []string{"nats"}})
	before := read(t, dir, "nats", "server.pem")
	prepare(t, dir, access.Options{Hosts: []string{"nats", "10.0.0.7"}})
	require.NotEqual(t, before, read(t, dir, "nats", "server.pem"))
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, "nats", "server.pem"), filepath.Join(dir, "nats", "server-key.pem"))
	require.NoError(t, err)
	require.NoError(t, pair.Leaf.VerifyHostname("10.0.0.7"))
	require.NoError(t, pair.Leaf.VerifyHostname("nats"))
	require.Equal(t, read(t, dir, "nats", "ca.pem"), read(t, dir, "executor", "ca.pem"))
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	require.Error(t, access.Prepare(t.TempDir(), access.Options{Tenants: []protocol.TenantID{"*"}}), "a tenant that is a wildcard")
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "gateway"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "gateway", "nats.nk"), []byte("not a seed"), 0o600))
	require.ErrorContains(t, access.Prepare(dir, access.Options{}), "gateway", "a seed that is broken is not replaced in silence")
}

// Silence about a side would allow everything on it.
func TestWriteUsersSaysNothingBySilence(t *testing.T) {
	t.Parallel()
	pair, err := nkeys.CreateUser()
	require.NoError(t, err)
	public, err := pair.PublicKey()
	require.NoError(t, err)
	var out bytes.Buffer
	require.NoError(t, access.WriteUsers(&out, []access.User{{Name: "mute", Key: public}}))
	require.Contains(t, out.String(), `publish: { deny: ">" }`)
	require.Contains(t, out.String(), `subscribe: { deny: ">" }`)
	require.NotContains(t, out.String(), "allow_responses")
	require.Error(t, access.WriteUsers(&out, []access.User{{Name: "x", Key: "UNOKEY } ] } } #"}}))
}

// The rules follow the number of partitions.
func TestPartitions(t *testing.T) {
	t.Parallel()
	require.NotContains(t, access.Of(access.Executor, 2).Publish, "$JS.API.CONSUMER.MSG.NEXT.EXECUTIONS_2.executors")
	require.Contains(t, access.Of(access.Executor, 3).Publish, "$JS.API.CONSUMER.MSG.NEXT.EXECUTIONS_2.executors")
	require.Empty(t, access.Of("nobody", 8))
}
