package bus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// Replies with a generated codec are those of any other type: results, refusals, and what is neither.
func TestRepliesWithGeneratedCodecs(t *testing.T) {
	t.Parallel()
	want := protocol.Grant{Granted: true, RetryAfterMS: 5, Remaining: map[protocol.Metric]int64{protocol.MetricRequests: 2}}
	body, err := bus.EncodeReply(want, nil)
	require.NoError(t, err)
	require.JSONEq(t, `{"ok":{"granted":true,"retry_after_ms":5,"remaining":{"requests_per_minute":2}}}`, string(body))
	got, err := bus.DecodeReply[protocol.Grant](body)
	require.NoError(t, err)
	require.Equal(t, want, got)
	// Written by somebody else, with spaces or another order, it is read the same.
	for _, other := range []string{` { "ok" : {"granted":true} } `, `{"more":1,"ok":{"granted":true}}`, `{"ok":{"granted":true},"more":1}`} {
		got, err = bus.DecodeReply[protocol.Grant]([]byte(other))
		require.NoError(t, err, other)
		require.Equal(t, protocol.Grant{Granted: true}, got)
	}
	body, err = bus.EncodeReply(protocol.Grant{}, &protocol.Error{Code: protocol.CodeRateLimited, Message: "later"})
	require.NoError(t, err)
	_, err = bus.DecodeReply[protocol.Grant](body)
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeRateLimited})
	for _, bad := range []string{``, `{}`, `null`, `{"ok":`, `{"ok":{}`, `{"ok":{"granted":1}}`, `{"ok":[]}`, `{"ok":{}}}`} {
		_, err = bus.DecodeReply[protocol.Grant]([]byte(bad))
		require.Error(t, err, bad)
	}
}
