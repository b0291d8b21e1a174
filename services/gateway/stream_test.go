package gateway_test

import (
	"bufio"
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// message is one server-sent event.
type message struct{ id, event, data string }

// watch opens a stream and hands out its messages until it ends.
func (p *platform) watch(ctx context.Context, path string, headers ...string) <-chan message {
	p.t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, http.NoBody)
	require.NoError(p.t, err)
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := p.client.Do(req) //nolint:bodyclose // closed by the reader below
	require.NoError(p.t, err)
	require.Equal(p.t, 200, resp.StatusCode)
	require.Equal(p.t, "text/event-stream", resp.Header.Get("Content-Type"))
	messages := make(chan message, 100)
	go func() {
		defer close(messages)
		defer func() { _ = resp.Body.Close() }()
		var m message
		lines := bufio.NewScanner(resp.Body)
		for lines.Scan() {
			field, value, _ := strings.Cut(lines.Text(), ": ")
			switch field {
			case "id":
				m.id = value
			case "event":
				m.event = value
			case "data":
				m.data = value
			case "":
				if m.event != "" {
					messages <- m
				}
				m = message{}
			}
		}
	}()
	return messages
}

func types(messages <-chan message) (out []string) {
	for m := range messages {
		out = append(out, m.event)
	}
	return out
}

func (p *platform) append(id string, after uint64, events ...protocol.Event) uint64 {
	p.t.Helper()
	c := protocol.Commit{ID: typeid.New("cmt")}
	for _, e := range events {
		c.Events = append(c.Events, protocol.Stamped{At: protocol.At(time.Now()), Event: e})
	}
	seq, err := p.bus.Append(context.Background(), p.bus.Key("dev", protocol.ExecutionID(id)), after, c)
	require.NoError(p.t, err)
	return seq
}

func TestEventStream(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	id := executionOf(t, p.call(http.MethodPost, "/workflows/execute?mode=async", run))
	last, err := p.bus.Last(t.Context(), p.bus.Key("dev", protocol.ExecutionID(id)))
	require.NoError(t, err)

	live := p.watch(t.Context(), "/executions/"+id+"/events")
	m := <-live
	require.Equal(t, "requested.v1", m.event)
	require.NotContains(t, m.data, "reply", "the platform's own address is not shown")

	seq := p.append(id, last.Sequence, protocol.Started{Executor: "e", Delivery: 1})
	require.Equal(t, "started.v1", (<-live).event)
	// Progress is repeated until it is seen: nothing says when the stream has subscribed.
	for got := false; !got; {
		require.NoError(t, p.bus.Progress("dev", protocol.ExecutionID(id), []byte("{\n\"node\": \"n\"}")))
		select {
		case m = <-live:
			require.Equal(t, message{event: "progress", data: `{"node":"n"}`}, m)
			got = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	seq = p.append(id, seq, protocol.NodeCompleted{Node: "a"}, protocol.NodeCompleted{Node: "b"})
	var middle message
	for m = range live {
		if m.event == "node_completed.v1" {
			middle = m
			break
		}
	}
	p.append(id, seq, protocol.NodeCompleted{Node: "c"}, protocol.Completed{Totals: protocol.Totals{Cost: "0"}})
	rest := types(live)
	for len(rest) > 0 && rest[0] == "progress" {
		rest = rest[1:]
	}
	require.Equal(t, []string{"node_completed.v1", "node_completed.v1", "completed.v1"}, rest, "and then the stream ends")

	// A client that comes back goes on in the middle of a commit, without gap or repeat.
	again := p.watch(t.Context(), "/executions/"+id+"/events", "Last-Event-ID", middle.id)
	m = <-again
	require.Equal(t, "node_completed.v1", m.event)
	require.Contains(t, m.data, `"node":"b"`)
	require.Equal(t, []string{"node_completed.v1", "completed.v1"}, types(again))

	list := p.call(http.MethodGet, "/executions/"+id+"/events", "").json(t)
	require.Len(t, list["events"], 6)
	require.Len(t, p.call(http.MethodGet, "/executions/"+id+"/events?after="+middle.id, "").json(t)["events"], 3)
	require.Equal(t, 422, p.call(http.MethodGet, "/executions/"+id+"/events?after=x", "").status)
	require.Equal(t, 404, p.call(http.MethodGet, "/executions/exec_01jd2v8m6hf5qrgq2s9n0w3x4y/events", "", "Accept", "text/event-stream").status)

	e := p.call(http.MethodGet, "/executions/"+id, "").json(t)
	require.Equal(t, "COMPLETED", e["status"])
	require.Len(t, e["nodes"], 3)
}

// TestStreamEnds leaves streams open: by the client, and by a gateway that must end.
func TestStreamEnds(t *testing.T) {
	p := start(t, withoutKeys)
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	id := executionOf(t, p.call(http.MethodPost, "/workflows/execute?mode=async", run))
	ctx, cancel := context.WithCancel(t.Context())
	gone := p.watch(ctx, "/executions/"+id+"/events")
	<-gone
	cancel()
	for range gone { // until it has ended
	}
	url, stop := p.stoppable(withoutKeys)
	p.url = url
	live := p.watch(t.Context(), "/executions/"+id+"/events")
	<-live
	require.NoError(t, stop())
	require.Empty(t, types(live), "it ended")
}

// A revoked key is told no more, on streams that are open too: they end.
func TestARevokedKeyEndsItsStreams(t *testing.T) {
	p := start(t)
	p.executor.follow(func(*bus.Job, protocol.Requested) protocol.Event { return nil })
	p.tenant("acme")
	key, id := p.key("acme")
	execution := executionOf(t, p.call(http.MethodPost, "/workflows/execute?mode=async", run, "X-API-Key", key))
	live := p.watch(t.Context(), "/executions/"+execution+"/events", "X-API-Key", key)
	require.Equal(t, "requested.v1", (<-live).event)
	require.Equal(t, 200, p.call(http.MethodDelete, "/keys/"+id+"?tenant_id=acme", "", "X-API-Key", adminKey).status)
	p.eventually(key, 401)

	at := p.bus.Key("acme", protocol.ExecutionID(execution))
	last, err := p.bus.Last(t.Context(), at)
	require.NoError(t, err)
	_, err = p.bus.Append(t.Context(), at, last.Sequence, protocol.Commit{
		ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: protocol.Started{Executor: "e", Delivery: 1}}},
	})
	require.NoError(t, err)
	require.Empty(t, types(live), "the stream ends, and says nothing of what came after")
}
