package protocol_test

import (
	"encoding/json"
	"testing"

	"github.com/mailru/easyjson"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// The generated codecs of the limiter's calls and encoding/json speak the same language, in both directions.
func TestLimiterCallsOnTheWire(t *testing.T) {
	t.Parallel()
	requests := []protocol.AcquireRequest{
		{},
		{Tenant: "acme", Queue: "wf_1/\"line\" <é>\n", Limits: workflow.Bandwidth{MaxMessagesPerSecond: 7}, Messages: 1, Requests: 2, Tokens: 3},
		{
			Tenant: "acme", Queue: "q", SubQueue: "gold", Weight: 0.25, Closable: "source/x", Reservation: "exec/1", Waits: true, ReservationMS: 1 << 40,
			Limits: workflow.Bandwidth{MaxMessagesPerSecond: 1, MaxRequestsPerMinute: 2, MaxTokensPerMinute: 3, BurstSize: 4},
			Behind: []protocol.Want{{Messages: 1}, {Requests: 1, Tokens: 2, Reservation: "r"}},
		},
	}
	for _, v := range requests {
		requireSameWire(t, v, &protocol.AcquireRequest{}, &protocol.AcquireRequest{})
	}
	for _, v := range []protocol.Grant{
		{},
		{Granted: true, Degraded: true},
		{
			Behind: 3, RetryAfterMS: 1500, TurnMS: 2, LimitingMetric: protocol.MetricTokens, AtUS: 1 << 50,
			Remaining: map[protocol.Metric]int64{protocol.MetricTokens: 0, protocol.MetricMessages: -1}, ResetMS: map[protocol.Metric]int64{protocol.MetricTokens: 9},
		},
	} {
		requireSameWire(t, v, &protocol.Grant{}, &protocol.Grant{})
	}
	// What a newer version adds is skipped, and what is no JSON is refused.
	var r protocol.AcquireRequest
	require.NoError(t, easyjson.Unmarshal([]byte(`{"tenant":"a","new":{"x":[1]},"behind":null}`), &r))
	require.Equal(t, protocol.AcquireRequest{Tenant: "a"}, r)
	for _, bad := range []string{``, `[]`, `{"tenant":1}`, `{"messages":"1"}`, `{"tenant":"a"`, `{} {}`} {
		require.Error(t, easyjson.Unmarshal([]byte(bad), &r), bad)
	}
}

func requireSameWire(t *testing.T, v easyjson.Marshaler, generated easyjson.Unmarshaler, standard any) {
	t.Helper()
	fast, err := easyjson.Marshal(v)
	require.NoError(t, err)
	slow, err := json.Marshal(v)
	require.NoError(t, err)
	require.JSONEq(t, string(slow), string(fast))
	require.NoError(t, easyjson.Unmarshal(slow, generated))
	require.NoError(t, json.Unmarshal(fast, standard))
	require.Equal(t, standard, generated)
}
