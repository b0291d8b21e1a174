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
