package fleet_test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/test/fleet"
)

// connect logs in with the key of a role.
func connect(t *testing.T, c *fleet.Cluster, r access.Role) *nats.Conn {
	t.Helper()
	key, err := nats.NkeyOptionFromSeed(filepath.Join(c.Keys, string(r), access.SeedFile))
	require.NoError(t, err)
	nc, err := nats.Connect(c.URL(), key, nats.RootCAs(filepath.Join(c.Keys, string(r), access.CAFile)),
		nats.CustomInboxPrefix("_INBOX."+string(r)), nats.ErrorHandler(func(*nats.Conn, *nats.Subscription, error) {}))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	return nc
}

// refused tells whether the server has refused what was done on a connection.
func refused(t *testing.T, nc *nats.Conn) bool {
	t.Helper()
	require.NoError(t, nc.FlushTimeout(10*time.Second)) // a refusal comes before the answer to this
	err := nc.LastError()
	if err == nil {
		return false
	}
	require.ErrorIs(t, err, nats.ErrPermissionViolation)
	return true
}

// TestAccess tries what each user must not do, and beside each the nearest thing that it may.
func TestAccess(t *testing.T) {
	c := startNATS(t, 1, "acme", "globex")
	layout(t, c)
	acme := access.TenantRole("acme")
	for _, try := range []struct {
		who       access.Role
		publish   string
		subscribe string
		allowed   bool
	}{
		// The gateway asks for executions; it does not run them, and the catalog's events are not its own.
		{access.Gateway, "agentflow.execution.0.acme.exec_1.requested", "", true},
		{access.Gateway, "agentflow.execution.0.acme.exec_1.log", "", false},
		{access.Gateway, "agentflow.catalog.acme.workflow.wf_1", "", false},
		{access.Gateway, "agentflow.progress.acme.exec_1", "", false},
		{access.Gateway, "_INBOX.gateway.x", "", false},
		{access.Gateway, "_INBOX.executor.x", "", false},
		{access.Gateway, "agentflow.command.acme.create_workflow", "", true},
		{access.Gateway, "agentflow.call.limiter.acquire", "", true},
		{access.Gateway, "agentflow.call.limiter.reset", "", false},
		{access.Gateway, "$JS.API.STREAM.DELETE.EXECUTIONS_0", "", false},
		{access.Gateway, "$JS.API.STREAM.PURGE.EXECUTIONS_0", "", false},
		{access.Gateway, "$JS.API.STREAM.CREATE.OTHER", "", false},
		{access.Gateway, "$JS.API.CONSUMER.CREATE.EXECUTIONS_0.executors.agentflow.execution.0.*.*.requested", "", false},
		{access.Gateway, "$JS.API.CONSUMER.MSG.NEXT.COMMANDS.catalog", "", false},
		{access.Gateway, "$JS.ACK.EXECUTIONS_0.executors.1.1.1.1.0", "", false},
		{access.Gateway, "", "agentflow.progress.acme.exec_1", true},
		{access.Gateway, "", "agentflow.call.limiter.acquire", false},
		{access.Gateway, "", "agentflow.command.>", false},
		{access.Gateway, "", "_INBOX.>", false},
		{access.Gateway, "", "_INBOX.executor.>", false},
		{access.Gateway, "", ">", false},

		// The executor appends to executions; the catalog is none of its business.
		{access.Executor, "agentflow.execution.0.acme.exec_1.log", "", true},
		{access.Executor, "agentflow.catalog.acme.workflow.wf_1", "", false},
		{access.Executor, "agentflow.command.acme.create_workflow", "", false},
		{access.Executor, "agentflow.call.catalog.key.list", "", false},
		{access.Executor, "agentflow.call.limiter.acquire", "", true},
		{access.Executor, "$JS.API.DIRECT.GET.CATALOG", "", false},
		{access.Executor, "$JS.API.CONSUMER.CREATE.CATALOG.spy", "", false},
		{access.Executor, "$JS.API.CONSUMER.CREATE.EXECUTIONS_0.spy", "", false},
		{access.Executor, "$JS.API.CONSUMER.DELETE.EXECUTIONS_0.executors", "", false},
		{access.Executor, "$JS.API.STREAM.PURGE.EXECUTIONS_0", "", false},
		{access.Executor, "$JS.API.STREAM.MSG.DELETE.EXECUTIONS_0", "", false},
		{access.Executor, "$KV.specs.acme.x", "", false},
		{access.Executor, "$KV.idempotency.acme.x", "", false},
		{access.Executor, "", "agentflow.signal.*", true},
		{access.Executor, "", "agentflow.catalog.>", false},
		{access.Executor, "", "agentflow.execution.>", false},
		{access.Executor, "", "_INBOX.gateway.>", false},

		// The catalog writes its own events and reads those of executions.
		{access.Catalog, "agentflow.catalog.acme.workflow.wf_1", "", true},
		{access.Catalog, "agentflow.execution.0.acme.exec_1.requested", "", false},
		{access.Catalog, "agentflow.execution.0.acme.exec_1.log", "", false},
		{access.Catalog, "agentflow.command.acme.create_workflow", "", false},
		{access.Catalog, "agentflow.signal.exec_1", "", false},
		{access.Catalog, "$JS.API.STREAM.DELETE.CATALOG", "", false},
		{access.Catalog, "$JS.API.STREAM.PURGE.CATALOG", "", false},
		{access.Catalog, "$JS.API.STREAM.CREATE.OTHER", "", false},
		{access.Catalog, "$KV.specs.acme.x", "", false},
		{access.Catalog, "$JS.API.STREAM.UPDATE.EXECUTIONS_0", "", false},
		{access.Catalog, "$JS.API.STREAM.PURGE.EXECUTIONS_0", "", true},
		{access.Catalog, "$JS.API.CONSUMER.DELETE.EXECUTIONS_0.executors", "", false},
		{access.Catalog, "$JS.API.CONSUMER.MSG.NEXT.EXECUTIONS_0.executors", "", false},
		{access.Catalog, "$JS.API.CONSUMER.CREATE.EXECUTIONS_0.executors.agentflow.execution.0.*.*.requested", "", false},
		{access.Catalog, "", "agentflow.call.catalog.>", true},
		{access.Catalog, "", "agentflow.call.limiter.>", false},
		{access.Catalog, "", "agentflow.execution.>", false},

		// The limiter answers, and asks nobody.
		{access.Limiter, "", "agentflow.call.limiter.>", true},
		{access.Limiter, "", "agentflow.call.catalog.>", false},
		{access.Limiter, "", "agentflow.call.>", false},
		{access.Limiter, "", "agentflow.execution.>", false},
		{access.Limiter, "agentflow.execution.0.acme.exec_1.requested", "", false},
		{access.Limiter, "agentflow.execution.0.acme.exec_1.log", "", false},
		{access.Limiter, "agentflow.call.executor.source.test", "", false},
		{access.Limiter, "$JS.API.INFO", "", false},
		{access.Limiter, "_INBOX.gateway.x", "", false},

		// A tenant's integration listens to its own tenant, and says nothing.
		{acme, "", "agentflow.execution.*.acme.>", true},
		{acme, "", "agentflow.progress.acme.>", true},
		{acme, "", "agentflow.catalog.acme.workflow.>", true},
		{acme, "", "agentflow.catalog.acme.key.>", false},
		{acme, "", "agentflow.execution.*.globex.>", false},
		{acme, "", "agentflow.execution.*.*.>", false},
		{acme, "", "agentflow.progress.globex.>", false},
		{acme, "", "agentflow.*.*.acme.>", false},
		{acme, "", "agentflow.command.acme.>", false},
		{acme, "", ">", false},
		{acme, "", "_INBOX.>", false},
		{acme, "agentflow.execution.0.acme.exec_1.requested", "", false},
		{acme, "agentflow.command.acme.create_workflow", "", false},
		{acme, "agentflow.call.catalog.execution.list", "", false},
		{acme, "$JS.API.DIRECT.GET.EXECUTIONS_0", "", false},
		{acme, "$JS.API.INFO", "", false},
	} {
		t.Run(string(try.who)+" "+try.publish+try.subscribe, func(t *testing.T) {
			nc := connect(t, c, try.who)
			if try.publish != "" {
				require.NoError(t, nc.Publish(try.publish, []byte("{}")))
			} else {
				_, err := nc.SubscribeSync(try.subscribe)
				require.NoError(t, err)
			}
			require.Equal(t, try.allowed, !refused(t, nc))
		})
	}

	t.Run("nobody", func(t *testing.T) {
		_, err := nats.Connect(c.URL(), nats.RootCAs(filepath.Join(c.Keys, access.ServerFolder, access.CAFile)))
		require.ErrorIs(t, err, nats.ErrAuthorization)
	})
	t.Run("in the clear", func(t *testing.T) {
		_, err := nats.Connect(strings.ReplaceAll(c.URL(), "tls://", "nats://"), nats.Timeout(2*time.Second))
		require.Error(t, err)
	})
}

// TestTenantListens: what happens to one tenant reaches its integration, and nothing of another one does.
func TestTenantListens(t *testing.T) {
	c := startNATS(t, 1, "acme", "globex")
	layout(t, c)
	nc := connect(t, c, access.TenantRole("acme"))
	heard := make(chan string, 16)
	_, err := nc.Subscribe("agentflow.execution.*.acme.>", func(m *nats.Msg) { heard <- m.Subject })
	require.NoError(t, err)
	require.False(t, refused(t, nc))
	sender := connect(t, c, access.Gateway)
	for _, subject := range []string{
		"agentflow.execution.0.globex.exec_1.requested", "agentflow.execution.0.acme.exec_2.requested",
		"agentflow.execution.1.globex.exec_3.requested", "agentflow.execution.1.acme.exec_4.requested",
	} {
		require.NoError(t, sender.Publish(subject, nil))
	}
	require.False(t, refused(t, sender))
	require.Equal(t, "agentflow.execution.0.acme.exec_2.requested", <-heard)
	require.Equal(t, "agentflow.execution.1.acme.exec_4.requested", <-heard)
	require.NoError(t, nc.Flush()) // what was on its way has come
	require.Empty(t, heard)
}

func startNATS(t *testing.T, servers int, tenants ...protocol.TenantID) *fleet.Cluster {
	t.Helper()
	c, err := fleet.StartNATS(t.Context(), t.TempDir(), servers, tenants...)
	if c != nil {
		t.Cleanup(func() {
			for _, s := range c.Servers {
				require.NoError(t, s.Kill())
			}
		})
	}
	require.NoError(t, err)
	return c
}

// layout makes the streams, as catalog does.
func layout(t *testing.T, c *fleet.Cluster) {
	t.Helper()
	dir := filepath.Join(c.Keys, string(access.Catalog))
	b, err := bus.Connect(t.Context(), bus.Config{
		URL: c.URL(), NKeyFile: filepath.Join(dir, access.SeedFile), CAFile: filepath.Join(dir, access.CAFile),
		Name: string(access.Catalog), Replicas: len(c.Servers), CreateLayout: true, MaxBytes: 64 << 20,
	})
	require.NoError(t, err)
	b.Close()
}
