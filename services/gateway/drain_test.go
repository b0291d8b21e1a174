package gateway_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway"
)

func TestDrain(t *testing.T) {
	p := start(t, withoutKeys)
	began, finish := make(chan struct{}), make(chan struct{})
	p.executor.follow(func(j *bus.Job, r protocol.Requested) protocol.Event {
		close(began)
		<-finish
		return complete(j, r)
	})
	url, stop := p.stoppable(withoutKeys)
	inHand := make(chan answer, 1)
	go func() { inHand <- p.at(url, http.MethodPost, "/workflows/execute", run) }()
	<-began
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// New connections are refused once the gateway is draining.
	require.Eventually(t, func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/health/ready", http.NoBody)
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			return true
		}
		_ = resp.Body.Close()
		return false
	}, waitFor, tick)
	close(finish)
	a := <-inHand
	require.Equal(t, 200, a.status, "what was in hand is answered: %s", a.body)
	require.NoError(t, <-stopped)
}

// TestDrainCutsWaiting ends a gateway while a client waits for an execution that takes longer.
func TestDrainCutsWaiting(t *testing.T) {
	p := start(t, withoutKeys)
	began := make(chan struct{})
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { close(began); return nil })
	url, stop := p.stoppable(withoutKeys, func(c *gateway.Config) { c.ShutdownTimeout = 3 * time.Second })
	inHand := make(chan answer, 1)
	go func() { inHand <- p.at(url, http.MethodPost, "/workflows/execute", run) }()
	<-began
	require.NoError(t, stop())
	a := <-inHand
	require.Equal(t, 503, a.status, "%s", a.body)
	require.NotEmpty(t, a.json(t)["execution_id"], "the client can ask another gateway for it")
	require.NotEmpty(t, a.header.Get("Retry-After"))
}

func TestFullLog(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	body := `{"workflow":` + pure + `,"initial_state":{"x":"` + strings.Repeat("x", 200<<10) + `"}}`
	// The partitions of the log fill up one after the other: the first refusal says enough.
	for _, path := range []string{"/workflows/execute?mode=async", "/api/v1/workflows/execute?mode=async"} {
		var a answer
		for range 1000 {
			if a = p.call(http.MethodPost, path, body); a.status != 202 {
				break
			}
		}
		require.Equal(t, 503, a.status, "%s", a.body)
		require.Contains(t, string(a.body), "LOG_FULL")
		require.NotEmpty(t, a.header.Get("Retry-After"))
	}
}

// TestWithoutNATS takes the server away.
func TestWithoutNATS(t *testing.T) {
	p := start(t, withoutKeys)
	p.catalog.stop()
	p.nats.Shutdown()
	p.nats.WaitForShutdown()
	a := p.call(http.MethodPost, "/workflows/execute", run)
	require.Equal(t, 503, a.status, "%s", a.body)
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.NotEmpty(t, a.json(t)["execution_id"], "whether it was accepted can be looked up")
	require.Equal(t, 200, p.call(http.MethodGet, "/health", "").status)
}
