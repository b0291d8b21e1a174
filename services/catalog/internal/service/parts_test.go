package service

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// next reads what a stream has behind its checkpoint.
func (w *world) next(stream string) part {
	w.t.Helper()
	at, err := w.begin(w.t.Context(), stream)
	require.NoError(w.t, err)
	state, err := w.bus.State(w.t.Context(), stream)
	require.NoError(w.t, err)
	reader, err := w.bus.Project(w.t.Context(), stream, at)
	require.NoError(w.t, err)
	defer reader.Close()
	p := part{stream: stream, at: at, done: make(chan error, 1)}
	for last := at; last < state.Last; last = p.batch[len(p.batch)-1].Sequence {
		more, err := reader.Next(w.t.Context(), batchSize, waitFor)
		require.NoError(w.t, err)
		require.NotEmpty(w.t, more)
		p.batch = append(p.batch, more...)
	}
	return p
}

// Partitions share a transaction; one whose checkpoint another process has moved does not keep the others from theirs.
func TestPartsOfATransaction(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 3})
	acme := w.tenant("acme")
	transactions := func() int64 {
		return w.count("select count(distinct updated_at) from projection_checkpoints where stream like 'EXEC%'")
	}
	write := func(ctx context.Context) []error {
		var group []part
		for p := range 3 {
			group = append(group, w.next(protocol.PartitionStream(p)))
		}
		w.projectGroup(ctx, group)
		var errs []error
		for _, one := range group {
			errs = append(errs, <-one.done)
		}
		return errs
	}
	perPartition := map[int]*run{}
	start := func() {
		clear(perPartition)
		for len(perPartition) < 3 {
			r := w.start(acme, protocol.Requested{}).complete()
			perPartition[r.key.Partition] = r
		}
	}

	start()
	require.Equal(t, []error{nil, nil, nil}, write(t.Context()))
	require.EqualValues(t, 1, transactions())
	for _, r := range perPartition {
		require.Equal(t, "COMPLETED", r.get().Status)
	}

	// The next ones of each; of partition 1 somebody else has written what comes now.
	start()
	stale := w.next(protocol.PartitionStream(1))
	require.NoError(t, w.Service.project(t.Context(), stale.stream, stale.at, stale.batch))
	group := []part{w.next(protocol.PartitionStream(0)), stale, w.next(protocol.PartitionStream(2))}
	w.projectGroup(t.Context(), group)
	require.NoError(t, <-group[0].done)
	require.ErrorIs(t, <-group[1].done, postgres.ErrMoved)
	require.NoError(t, <-group[2].done)
	for _, r := range perPartition {
		require.Equal(t, "COMPLETED", r.get().Status)
	}

	// Without Postgres nobody gets anything.
	start()
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, err := range write(gone) {
		require.ErrorIs(t, err, postgres.ErrUnavailable)
	}
	require.Equal(t, []error{nil, nil, nil}, write(t.Context()))

	l, err := w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme})
	require.NoError(t, err)
	require.EqualValues(t, w.count("select count(*) from executions"), l.Total, "counted once")
}
