package bus_test

import (
	"bytes"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestSpecs(t *testing.T) {
	t.Parallel()
	b := open(t)
	_, err := b.GetSpec(within(t), "acme", "ab12")
	require.ErrorIs(t, err, bus.ErrNotFound)
	doc := []byte(`{"start_node": "a"}`)
	require.NoError(t, b.PutSpec(within(t), "acme", "ab12", doc))
	require.NoError(t, b.PutSpec(within(t), "acme", "ab12", doc), "to renew its lifetime")
	got, err := b.GetSpec(within(t), "acme", "ab12")
	require.NoError(t, err)
	require.Equal(t, doc, got)
	_, err = b.GetSpec(within(t), "other", "ab12")
	require.ErrorIs(t, err, bus.ErrNotFound, "tenants never meet")
	require.Error(t, b.PutSpec(within(t), "acme", "big", make([]byte, 3<<20)))
}

func TestOfManyClaimersOneWins(t *testing.T) {
	t.Parallel()
	b := open(t)
	key := "a key / of anything.*>é"
	_, err := b.Claimed(within(t), "acme", key)
	require.ErrorIs(t, err, bus.ErrNotFound)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var winners, kept []string
	for i := range 8 {
		wg.Go(func() {
			mine := "exec_" + strconv.Itoa(i)
			got, won, err := b.Claim(within(t), "acme", key, []byte(mine))
			require.NoError(t, err)
			mu.Lock()
			defer mu.Unlock()
			kept = append(kept, string(got))
			if won {
				winners = append(winners, mine)
			}
		})
	}
	wg.Wait()
	require.Len(t, winners, 1)
	for _, k := range kept {
		require.Equal(t, winners[0], k)
	}
	stands, err := b.Claimed(within(t), "acme", key)
	require.NoError(t, err)
	require.Equal(t, winners[0], string(stands))

	_, won, err := b.Claim(within(t), "acme", key, stands)
	require.NoError(t, err)
	require.True(t, won, "the acknowledgement of our own claim was lost")
	_, won, err = b.Claim(within(t), "other", key, []byte("exec_9"))
	require.NoError(t, err)
	require.True(t, won, "tenants never meet")

	require.NoError(t, b.Unclaim(within(t), "acme", key, []byte("exec_9")))
	_, err = b.Claimed(within(t), "acme", key)
	require.NoError(t, err, "the claim of another stays")
	for range 2 {
		require.NoError(t, b.Unclaim(within(t), "acme", key, stands))
		_, err = b.Claimed(within(t), "acme", key)
		require.ErrorIs(t, err, bus.ErrNotFound)
	}
	_, won, err = b.Claim(within(t), "acme", key, []byte("exec_9"))
	require.NoError(t, err)
	require.True(t, won, "a key that was given back is free")
}

func TestObjects(t *testing.T) {
	t.Parallel()
	b := open(t)
	data := bytes.Repeat([]byte("0123456789"), 100_000)
	name, err := b.PutObject(within(t), "acme", data)
	require.NoError(t, err)
	got, err := b.GetObject(within(t), "acme", name, 1<<20)
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	_, err = b.GetObject(within(t), "acme", name, int64(len(data)))
	require.NoError(t, err)
	_, err = b.GetObject(within(t), "acme", name, int64(len(data))-1)
	require.ErrorContains(t, err, "larger than")
	_, err = b.GetObject(within(t), "acme", "acme/obj_none", 1<<20)
	require.ErrorIs(t, err, bus.ErrNotFound)
	for _, tenant := range []protocol.TenantID{"acm", "other", ""} {
		_, err = b.GetObject(within(t), tenant, name, 1<<20)
		require.ErrorIs(t, err, bus.ErrNotFound, "%q", tenant)
	}
}
