package gateway_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const threeNodes = `{"workflow":{"start_node":"in","nodes":[{"id":"in","type":"input"},{"id":"route","type":"router",` +
	`"metadata":{"routes":[{"intent":"greet","keywords":["hello"]}]}},{"id":"out","type":"aggregator"}],` +
	`"edges":[{"from":"in","to":"route"},{"from":"route","to":"out"}]},"initial_state":{"user_input":"hello there"}}`

func post(tb testing.TB, p *platform, body string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, p.url+"/api/v1/workflows/execute", strings.NewReader(body))
	require.NoError(tb, err)
	resp, err := p.client.Do(req)
	require.NoError(tb, err)
	_, err = io.Copy(io.Discard, resp.Body)
	require.NoError(tb, err)
	require.NoError(tb, resp.Body.Close())
	require.Equal(tb, http.StatusOK, resp.StatusCode)
}

// BenchmarkExecute is the hot path over a socket, with an executor that does nothing: what the
// gateway, the log and the reply cost.
func BenchmarkExecute(b *testing.B) {
	b.Run("one client", func(b *testing.B) {
		p := start(b, withoutKeys)
		post(b, p, threeNodes)
		for b.Loop() {
			post(b, p, threeNodes)
		}
	})
	b.Run("64 clients", func(b *testing.B) {
		p := start(b, withoutKeys)
		post(b, p, threeNodes)
		b.SetParallelism(32)
		b.ResetTimer()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				post(b, p, threeNodes)
			}
		})
	})
}
