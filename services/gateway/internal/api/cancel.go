package api

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// CancelBody may say why.
type CancelBody struct {
	Reason string `json:"reason,omitempty" maxLength:"500"`
}

// cancelWait is how long a cancel waits for the end that it asked for, so that the usual answer is
// the end itself.
const cancelWait = 2 * time.Second

// cancel writes the request to end into the execution's log, under the same fence as everything
// else in it, and returns the execution.
func (s *Server) cancel(ctx context.Context, r *request, id protocol.ExecutionID, reason string) (protocol.Execution, error) {
	key := s.bus.Key(r.tenant, id)
	asked, err := s.appendCancel(ctx, key, protocol.CancelRequested{Actor: r.who.Actor, Reason: reason})
	if err != nil && !errors.Is(err, bus.ErrNotFound) {
		return protocol.Execution{}, err
	}
	if err == nil && asked {
		if err := s.bus.Signal(id); err != nil {
			// Whoever runs the execution finds the event at its next commit all the same.
			s.rt.Logger(ctx).Warn("cancel not signalled")
		}
		s.awaitEnd(ctx, key)
	}
	e, err := s.history.Get(ctx, r.tenant, id)
	if err != nil {
		return protocol.Execution{}, err
	}
	switch e.Status {
	case "PENDING", "RUNNING", "CANCELLED":
		return *e, nil
	}
	return protocol.Execution{}, &protocol.Error{Code: protocol.CodeConflict, Message: "the execution has ended already: " + e.Status}
}

// appendCancel appends the event unless the execution has ended or was asked to end before. It
// reports whether it did.
func (s *Server) appendCancel(ctx context.Context, key protocol.ExecutionKey, e protocol.CancelRequested) (bool, error) {
	commit := protocol.Commit{ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(time.Now()), Event: e}}}
	for {
		records, err := s.bus.Load(ctx, key, 0)
		if err != nil {
			if !errors.Is(err, bus.ErrNotFound) {
				err = errors.Join(bus.ErrUnavailable, err)
			}
			return false, fmt.Errorf("cancel %s: %w", key.ID, err)
		}
		if ended, asked := cancelled(records); ended || asked {
			return false, nil
		}
		_, err = s.bus.Append(ctx, key, records[len(records)-1].Sequence, commit)
		if !errors.Is(err, bus.ErrConflict) {
			return err == nil, err
		}
		// The execution went on meanwhile: look again.
	}
}

// cancelled tells whether the commits hold an end, and whether one was asked for.
func cancelled(records []protocol.Record) (ended, asked bool) {
	for _, rec := range records {
		for _, st := range rec.Events {
			if protocol.Terminal(st.Event) {
				ended = true
			}
			if _, ok := st.Event.(protocol.CancelRequested); ok {
				asked = true
			}
		}
	}
	return ended, asked
}

// awaitEnd waits a little for the terminal event.
func (s *Server) awaitEnd(ctx context.Context, key protocol.ExecutionKey) {
	ctx, cancel := context.WithTimeout(ctx, cancelWait)
	defer cancel()
	// Nothing depends on it: what stands in the log when the time is over is the answer.
	_ = s.bus.Follow(ctx, key, 0, func(rec protocol.Record) bool {
		ended, _ := cancelled([]protocol.Record{rec})
		return !ended
	})
}
