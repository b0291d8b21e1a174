package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// line is a way to a platform that can be cut.
type line struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	taken int // connections so far
	deaf  int // how many of the next connections are closed at once
	wg    sync.WaitGroup
}

// lineTo listens, and passes on what is said to an address.
func lineTo(t *testing.T, address string) *line {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := &line{Listener: listener}
	l.wg.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			if far, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address); err == nil && l.take(near, far) {
				l.wg.Go(func() { _, _ = io.Copy(far, near); _ = far.Close() })
				l.wg.Go(func() { _, _ = io.Copy(near, far); _ = near.Close() })
			}
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		l.cut(0)
		l.wg.Wait()
	})
	return l
}

func (l *line) take(conns ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.taken++
	if l.deaf > 0 {
		l.deaf--
		for _, c := range conns {
			_ = c.Close()
		}
		return false
	}
	l.conns = append(l.conns, conns...)
	return true
}

// cut ends every connection, and the next ones as soon as they are made.
func (l *line) cut(next int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
	l.conns, l.deaf = nil, next
}

func (l *line) connections() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taken
}

// testReconnect cuts the line to the gateway while an execution is watched: the watcher comes back, and has every event
// once and in order, also those that came while it was away.
func testReconnect(t *testing.T, s shell, r *running, outside string) {
	t.Helper()
	s.t = t
	slow := file(t, `{"start_node":"call","nodes":[{"id":"call","type":"api","metadata":{"source_id":"slow","endpoint":"/"}}],
		"sources":[{"id":"slow","kind":"api","config":{"base_url":"`+outside+`"}}]}`)
	id := s.field("execution_id", "execution", "start", slow)
	cable := lineTo(t, strings.TrimPrefix(r.URL, "http://"))
	watcher := agentflow(t, []string{"AGENTFLOW_API_KEY=" + r.APIKey}, "execution", "watch", id, "-o", "json", "--url", "http://"+cable.Addr().String())
	stdout, err := watcher.StdoutPipe()
	require.NoError(t, err)
	stderr := &output{}
	watcher.Stderr = stderr
	require.NoError(t, watcher.Start())
	lines := bufio.NewReader(stdout)
	first, err := lines.ReadString('\n')
	require.NoError(t, err)
	cable.cut(1)
	s.must("execution", "cancel", id)
	rest, err := io.ReadAll(lines)
	require.NoError(t, err)
	require.Equal(t, exitFailed, wait(t, watcher), "it did not complete")
	require.Empty(t, stderr.String())
	require.GreaterOrEqual(t, cable.connections(), 3)

	var want []json.RawMessage
	require.NoError(t, json.Unmarshal([]byte(s.must("execution", "events", id, "-o", "json")), &want))
	got := strings.Split(strings.TrimSpace(first+string(rest)), "\n")
	require.Len(t, got, len(want))
	for i := range want {
		require.JSONEq(t, string(want[i]), got[i])
	}
}
