package bus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestTrimObjects(t *testing.T) {
	b := open(t)
	ctx := t.Context()
	put := func() string {
		t.Helper()
		name, err := b.PutObject(ctx, "acme", []byte(strings.Repeat("x", 300<<10))) // of several chunks
		require.NoError(t, err)
		return name
	}
	trim := func(before time.Time) uint64 {
		t.Helper()
		n, err := b.TrimObjects(ctx, before)
		require.NoError(t, err)
		return n
	}
	require.Zero(t, trim(time.Now()), "an empty bucket")
	first, second := put(), put()
	state, err := b.State(ctx, "OBJ_"+protocol.BucketObjects)
	require.NoError(t, err)
	require.Zero(t, trim(state.FirstTime), "nothing is older than the oldest")
	border := time.Now()
	third := put()
	require.NotZero(t, trim(border))
	for _, name := range []string{first, second} {
		_, err := b.GetObject(ctx, "acme", name, 1<<20)
		require.ErrorIs(t, err, bus.ErrNotFound)
	}
	data, err := b.GetObject(ctx, "acme", third, 1<<20)
	require.NoError(t, err)
	require.Len(t, data, 300<<10)
	require.NotZero(t, trim(time.Now().Add(time.Minute)))
	_, err = b.GetObject(ctx, "acme", third, 1<<20)
	require.ErrorIs(t, err, bus.ErrNotFound)
	state, err = b.State(ctx, "OBJ_"+protocol.BucketObjects)
	require.NoError(t, err)
	require.Zero(t, state.Messages, "and nothing is left of any of them")
	_, err = b.GetObject(ctx, "acme", put(), 1<<20)
	require.NoError(t, err)
}
