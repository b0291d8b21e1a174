package protocol_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// FuzzDecodeCommit: whatever can be read can be written again, and then reads the same.
func FuzzDecodeCommit(f *testing.F) {
	for _, e := range published {
		body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{At: at(6), Event: e}, {Event: e}}})
		require.NoError(f, err)
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := protocol.DecodeCommit("c", body)
		if err != nil {
			return
		}
		once, err := protocol.EncodeCommit(c)
		require.NoError(t, err)
		back, err := protocol.DecodeCommit("c", once)
		require.NoError(t, err)
		twice, err := protocol.EncodeCommit(back)
		require.NoError(t, err)
		require.Equal(t, string(once), string(twice))
		for _, s := range c.Events {
			protocol.MapObject(s.Event, func(o protocol.Object) protocol.Object {
				_, _ = o.Values() // may refuse, must not fall over
				return o
			})
		}
	})
}
