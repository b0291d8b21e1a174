package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

const (
	heartbeat   = 15 * time.Second
	streamAhead = 64 // messages that may wait for the client
)

// stream answers with server-sent events: what stands in the log, then what comes, until the
// execution ends. The id of an event is its place in the log, so a client that comes back with
// Last-Event-ID goes on where it was. Progress, which is not kept, has no id.
func (s *Server) stream(c *fiber.Ctx, r *request, id protocol.ExecutionID, after position, history []protocol.Record) error {
	c.Set(fiber.HeaderContentType, "text/event-stream")
	c.Set("X-Accel-Buffering", "no") // proxies must not collect it
	st := &eventStream{
		server: s, key: s.bus.Key(r.tenant, id), presented: strings.Clone(presented(c)), after: after,
		conn: c.Context().Conn(), messages: make(chan []byte, streamAhead),
	}
	s.background.Add(1)
	s.metrics.streams.Inc()
	// The handler returns now; what follows runs when the answer is written. Nothing of the request
	// may be used there but what was copied.
	ctx := r.context(context.WithoutCancel(c.UserContext()))
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer s.background.Done()
		defer s.metrics.streams.Dec()
		if err := s.guardStream(ctx, func() error { return st.run(ctx, w, history) }); err != nil {
			s.rt.Logger(ctx).Info("event stream ended early", zap.Error(err))
		}
	})
	return nil
}

func (s *Server) guardStream(ctx context.Context, run func() error) (err error) {
	defer s.rt.Recover(ctx, &err)
	return run()
}

// eventStream is one client that watches one execution.
type eventStream struct {
	server    *Server
	key       protocol.ExecutionKey
	presented string // the key of the client, "" where none is asked for
	after     position
	conn      net.Conn
	messages  chan []byte
}

func (st *eventStream) run(ctx context.Context, w *bufio.Writer, history []protocol.Record) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(st.server.life, cancel) //nolint:contextcheck // the server's own end, on purpose
	defer stop()
	done := make(chan struct{}, 2)
	go func() {
		st.follow(ctx, history)
		close(st.messages) // the end of the execution, or of the reading: either way the end of the stream
		done <- struct{}{}
	}()
	progress := make(chan []byte, streamAhead)
	go func() {
		// Nothing but progress is lost with it.
		_ = st.server.bus.FollowProgress(ctx, st.key.Tenant, st.key.ID, func(body []byte) {
			select {
			case progress <- body:
			default:
			}
		})
		done <- struct{}{}
	}()
	err := st.write(w, progress) //nolint:contextcheck // a key is looked up in memory, which waits for nothing
	cancel()
	for range st.messages { // lets the follower see that nobody reads any more
	}
	<-done
	<-done
	return err
}

// follow turns commits into messages: first the history, then what comes.
func (st *eventStream) follow(ctx context.Context, history []protocol.Record) {
	for _, rec := range history {
		if !st.send(ctx, rec) {
			return
		}
	}
	last := st.after.commitBefore()
	if n := len(history); n > 0 {
		last = history[n-1].Sequence
	}
	for ctx.Err() == nil {
		err := st.server.bus.Follow(ctx, st.key, last, func(rec protocol.Record) bool {
			last = rec.Sequence
			return st.send(ctx, rec)
		})
		if err == nil {
			return
		}
		if errors.Is(err, bus.ErrNotFound) && st.fromArchive(ctx, &last) {
			return
		}
		// The log could not be read: the connection to it may come back.
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// fromArchive goes on where the log was trimmed while the client read, and reports whether that
// was the end.
func (st *eventStream) fromArchive(ctx context.Context, last *uint64) bool {
	records, err := st.server.history.Commits(ctx, st.key.Tenant, st.key.ID, *last)
	if err != nil {
		return false // asked again in a moment
	}
	for _, rec := range records {
		*last = rec.Sequence
		if !st.send(ctx, rec) {
			return true
		}
	}
	return false
}

// send queues the events of a commit, and reports whether there is more to come.
func (st *eventStream) send(ctx context.Context, rec protocol.Record) bool {
	events, err := eventsOf(rec)
	if err != nil {
		st.server.rt.Logger(ctx).Error("event not encoded", zap.Error(err))
		return false
	}
	for _, e := range events {
		if !st.after.before(e) {
			continue
		}
		st.after = position{e.Sequence, e.Index}
		body, err := json.Marshal(e)
		if err != nil {
			st.server.rt.Logger(ctx).Error("event not encoded", zap.Error(err))
			return false
		}
		select {
		case st.messages <- fmt.Appendf(nil, "id: %s\nevent: %s\ndata: %s\n\n", st.after, e.Type, body):
		case <-ctx.Done():
			return false
		}
	}
	return rec.End() == nil
}

// write sends messages, progress and heartbeats until there are no more messages.
func (st *eventStream) write(w *bufio.Writer, progress <-chan []byte) error {
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	// The headers go out at once, so that the client knows that it is watching.
	if err := st.put(w, []byte(": watching\nretry: 1000\n\n")); err != nil {
		return err
	}
	for {
		var message []byte
		select {
		case m, more := <-st.messages:
			if !more {
				return nil
			}
			message = m
		case body := <-progress:
			message = fmt.Appendf(nil, "event: progress\ndata: %s\n\n", oneLine(body))
		case <-beat.C:
			message = []byte(": heartbeat\n\n")
		}
		if err := st.put(w, message); err != nil {
			return err
		}
	}
}

// oneLine makes any JSON fit one data line.
func oneLine(body []byte) []byte {
	var compact json.RawMessage
	if json.Unmarshal(body, &compact) != nil {
		return []byte("null")
	}
	line, err := json.Marshal(compact)
	if err != nil {
		return []byte("null")
	}
	return line
}

// put writes a message, while the key that opened the stream would still open it: an execution may outlive it by days.
func (st *eventStream) put(w *bufio.Writer, message []byte) error {
	if st.presented != "" {
		if _, err := st.server.keys.Identify(st.presented); err != nil {
			return fmt.Errorf("write event: %w", err)
		}
	}
	if err := st.conn.SetWriteDeadline(time.Now().Add(st.server.opts.WriteTimeout)); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if _, err := w.Write(message); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	return nil
}
