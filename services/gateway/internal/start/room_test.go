package start

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// vessel is a log of which only the level matters.
type vessel struct {
	log
	level uint64
	err   error
	asked int
}

func (v *vessel) State(context.Context, string) (bus.StreamState, error) {
	v.asked++
	return bus.StreamState{Bytes: v.level, MaxBytes: 1000}, v.err
}

func TestRoomIsKeptForWhatWasAccepted(t *testing.T) {
	t.Parallel()
	v := &vessel{level: 749}
	s, err := New(v, nil, nil, Defaults{})
	require.NoError(t, err)
	now := time.Now()
	s.now = func() time.Time { return now }
	key, other := protocol.ExecutionKey{Partition: 1}, protocol.ExecutionKey{Partition: 2}
	for range 10 {
		require.True(t, s.left(t.Context(), key, 0))
	}
	require.Equal(t, 1, v.asked, "not every request asks")
	v.level = 750
	require.True(t, s.left(t.Context(), key, 0), "believed for a while")
	require.False(t, s.left(t.Context(), other, 0))
	now = now.Add(lookEvery)
	require.False(t, s.left(t.Context(), key, 0))
	require.False(t, s.left(t.Context(), key, 0))
	v.err = errors.New("no answer")
	now = now.Add(lookEvery)
	require.True(t, s.left(t.Context(), key, 0), "the append finds out")
	v.err, v.level = nil, 100
	now = now.Add(lookEvery)
	for range 10 { // what is accepted between two looks counts
		require.True(t, s.left(t.Context(), key, 65))
	}
	require.False(t, s.left(t.Context(), key, 65))
	now = now.Add(lookEvery)
	require.True(t, s.left(t.Context(), key, 65))
}
