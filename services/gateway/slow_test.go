package gateway_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway"
)

// dial opens a connection whose client takes in next to nothing, and gives up on everything after a while.
func (p *platform) dial() *net.TCPConn {
	p.t.Helper()
	conn, err := (&net.Dialer{}).DialContext(p.t.Context(), "tcp", strings.TrimPrefix(p.url, "http://"))
	require.NoError(p.t, err)
	p.t.Cleanup(func() { _ = conn.Close() })
	tcp := conn.(*net.TCPConn)
	require.NoError(p.t, tcp.SetReadBuffer(4<<10))
	require.NoError(p.t, tcp.SetDeadline(time.Now().Add(waitFor)))
	return tcp
}

// drip says something, byte by byte and for ever, until the other side does not listen any more.
func drip(conn net.Conn, beginning string) {
	every := time.NewTicker(20 * time.Millisecond)
	defer every.Stop()
	_, err := conn.Write([]byte(beginning))
	for err == nil {
		<-every.C
		_, err = conn.Write([]byte("a"))
	}
}

// TestSlowClient: the time in which a request must have arrived is one for all of it. A client that always says a little
// more gets no more of it than one that stops, also when it was quick before.
func TestSlowClient(t *testing.T) {
	t.Parallel()
	p := start(t, withoutKeys, func(c *gateway.Config) { c.ReadTimeout = time.Second })
	const headers, body = "POST /workflows/execute HTTP/1.1\r\nHost: localhost\r\nX-Slow: ", "POST /workflows/execute HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10000\r\n\r\n"
	for name, said := range map[string]string{
		"stops in the first line": "POST /workf",
		"stops in the body":       body + "{",
		"drips the headers":       headers,
		"drips the body":          body,
		"drips after a request":   "GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n" + headers,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := p.dial()
			if strings.HasPrefix(name, "drips") {
				done := make(chan struct{})
				go func() { defer close(done); drip(conn, said) }()
				defer func() { require.NoError(t, conn.Close()); <-done }()
			} else {
				_, err := conn.Write([]byte(said))
				require.NoError(t, err)
			}
			answers := bufio.NewReader(conn)
			for status := http.StatusOK; status != http.StatusRequestTimeout; {
				resp, err := http.ReadResponse(answers, nil)
				if err != nil && strings.HasPrefix(name, "drips") { // what is still said may cost it the answer
					require.NotErrorIs(t, err, os.ErrDeadlineExceeded)
					return
				}
				require.NoError(t, err)
				_, err = io.Copy(io.Discard, resp.Body)
				require.NoError(t, err)
				require.NoError(t, resp.Body.Close())
				status = resp.StatusCode
			}
		})
	}
}

// TestClientThatDoesNotRead asks for ever more and takes nothing of it: the gateway waits for it as long as an answer may
// take, and then lets go of it with all that it held.
func TestClientThatDoesNotRead(t *testing.T) {
	t.Parallel()
	p := start(t, withoutKeys, func(c *gateway.Config) { c.WriteTimeout = time.Second })
	conn := p.dial()
	var err error
	for err == nil {
		_, err = conn.Write([]byte("GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	}
	require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the gateway held on to it")
}

// TestStreamThatNobodyReads: a watcher that does not read is let go of, with the goroutines behind it. Nothing is lost: what
// it missed stands in the log.
func TestStreamThatNobodyReads(t *testing.T) {
	t.Parallel()
	p := start(t, withoutKeys, func(c *gateway.Config) { c.WriteTimeout = time.Second })
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	id := executionOf(t, p.call(http.MethodPost, "/workflows/execute?mode=async", run))
	conn := p.dial()
	_, err := conn.Write([]byte("GET /executions/" + id + "/events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\n\r\n"))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.streams() == 1 }, waitFor, tick)
	much := []byte(`"` + strings.Repeat("x", 500<<10) + `"`)
	require.Eventually(t, func() bool {
		require.NoError(t, p.bus.Progress("dev", protocol.ExecutionID(id), much))
		return p.streams() == 0
	}, waitFor, 50*time.Millisecond)
}

// streams is how many event streams the gateway says are open.
func (p *platform) streams() float64 {
	p.t.Helper()
	families, err := p.metrics.Gather()
	require.NoError(p.t, err)
	for _, f := range families {
		if f.GetName() == "agentflow_http_streams" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	require.Fail(p.t, "there is no such metric")
	return 0
}
