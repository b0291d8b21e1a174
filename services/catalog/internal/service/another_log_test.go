package service

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// over is the world's tables over another log, in which the catalog alone was restored.
func (w *world) over(b *bus.Bus, tenant protocol.TenantID) *world {
	w.t.Helper()
	again := *w
	again.Service = New(w.store, b, testLog(w.t), prometheus.NewRegistry())
	again.projects = NewProjector(again.Service)
	e, _, err := w.bus.LastCatalog(w.t.Context(), tenant, protocol.KindTenant, string(tenant))
	require.NoError(w.t, err)
	_, err = b.AppendCatalog(w.t.Context(), e, 0)
	require.NoError(w.t, err)
	return &again
}

// All of NATS is lost, and made anew: the tables keep what they have, and what comes is added to it.
func TestALogMadeAnewGoesOnBehindTheTables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	acme := w.tenant("acme")
	stop := w.project()
	ended := w.start(acme, protocol.Requested{})
	ended.complete()
	w.start(acme, protocol.Requested{}) // and is lost
	w.settled()
	stop()

	again := w.over(newBus(t, 1, 1<<30), acme)
	require.NoError(t, again.bus.Trim(t.Context(), 0, 1_000_000)) // as the bus makes them
	executions := again.Streams()[1:]
	require.NoError(t, again.AwaitTables(t.Context(), executions), "there is nothing to wait for")
	next := again.start(acme, protocol.Requested{}) // before anybody has looked at the tables
	next.complete()
	again.project()
	require.NoError(t, again.AwaitTables(t.Context(), executions))
	require.Equal(t, "COMPLETED", next.get().Status)
	require.Equal(t, "COMPLETED", ended.get().Status)
	for _, r := range []*run{ended, next} {
		commits, err := again.getCommits(t.Context(), protocol.GetExecutionCommitsRequest{Tenant: acme, ID: r.key.ID})
		require.NoError(t, err)
		require.Len(t, commits.Commits, 2)
	}

	// What was under way when the log was lost does not keep the new one from being trimmed.
	j, _ := again.janitor(0, 0)
	_, err := j.trim(t.Context(), 0, nil)
	require.NoError(t, err)
	_, _, count := again.messages(0)
	require.Zero(t, count)
}

// A replay from a log that ends before the tables do would lose what the archive has under the same sequences.
func TestReplayRefusesAnotherLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	acme := w.tenant("acme")
	w.project()
	w.start(acme, protocol.Requested{}).complete()
	w.settled()

	again := w.over(newBus(t, 1, 1<<30), acme)
	again.start(acme, protocol.Requested{})
	err := again.Rebuild(t.Context(), w.store, func(string, uint64, uint64) {})
	require.ErrorIs(t, err, errUnreadable)
	require.ErrorContains(t, err, "the tables have EXECUTIONS_0 up to 2, but it ends at 1")
}
