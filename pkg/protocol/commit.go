package protocol

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// Commit is one message of an execution's log: events of one aggregate that appear together or
// not at all.
type Commit struct {
	ID     string // unique; a writer that lost its ack recognises its own commit by it
	Events []Stamped
	Body   []byte // what EncodeCommit made of Events, when the writer has it already
}

// Stamped is an event and when it happened.
type Stamped struct {
	At    Time
	Event Event
}

// Record is a commit as it stands in the log.
type Record struct {
	Commit
	Sequence uint64 // in the partition's stream
	Previous uint64 // sequence of the aggregate's commit before this one, 0 for the first
	Stored   time.Time
}

// CommitType is the ce-type of the commit message itself.
const CommitType = "agentflow.execution.commit.v1"

// ErrUnknownEvent stops a reader that meets an event it does not know.
var ErrUnknownEvent = errors.New("unknown event type")

type commitWire struct {
	Events []stampedWire `json:"events"`
}

type stampedWire struct {
	Type string          `json:"type"`
	At   Time            `json:"at"`
	Data json.RawMessage `json:"data"`
}

// EncodeCommit renders the body of a commit; its id travels as the header ce-id.
func EncodeCommit(c Commit) ([]byte, error) {
	if len(c.Events) == 0 {
		return nil, errors.New("encode commit: no events")
	}
	b := make([]byte, 0, 1024)
	b = append(b, `{"events":[`...)
	for i, s := range c.Events {
		if i > 0 {
			b = append(b, ',')
		}
		data, err := json.Marshal(s.Event)
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", s.Event.EventType(), err)
		}
		at, err := s.At.MarshalJSON()
		if err != nil {
			return nil, fmt.Errorf("encode %s: %w", s.Event.EventType(), err)
		}
		b = append(b, `{"type":"`...)
		b = append(b, s.Event.EventType()...)
		b = append(b, `","at":`...)
		b = append(b, at...)
		b = append(b, `,"data":`...)
		b = append(b, data...)
		b = append(b, '}')
	}
	return append(b, `]}`...), nil
}

// DecodeCommit reads the body of a commit. An unknown event type is an error: a reader that
// skipped it would build a wrong state.
func DecodeCommit(id string, body []byte) (Commit, error) {
	var w commitWire
	if err := json.Unmarshal(body, &w); err != nil {
		return Commit{}, fmt.Errorf("decode commit %s: %w", id, err)
	}
	if len(w.Events) == 0 {
		return Commit{}, fmt.Errorf("decode commit %s: no events", id)
	}
	c := Commit{ID: id, Events: make([]Stamped, len(w.Events))}
	for i, s := range w.Events {
		e, err := DecodeEvent(s.Type, s.Data)
		if err != nil {
			return Commit{}, fmt.Errorf("decode commit %s, event %d: %w", id, i, err)
		}
		c.Events[i] = Stamped{At: s.At, Event: e}
	}
	return c, nil
}

// DecodeEvent reads one event by its versioned name.
func DecodeEvent(name string, data []byte) (Event, error) {
	switch name {
	case "requested.v1":
		return decode[Requested](data)
	case "started.v1":
		return decode[Started](data)
	case "node_completed.v1":
		return decode[NodeCompleted](data)
	case "node_failed.v1":
		return decode[NodeFailed](data)
	case "node_rate_limited.v1":
		return decode[NodeRateLimited](data)
	case "cancel_requested.v1":
		return decode[CancelRequested](data)
	case "carried.v1":
		return decode[Carried](data)
	case "completed.v1":
		return decode[Completed](data)
	case "failed.v1":
		return decode[Failed](data)
	case "timed_out.v1":
		return decode[TimedOut](data)
	case "cancelled.v1":
		return decode[Cancelled](data)
	}
	return nil, fmt.Errorf("%w: %q", ErrUnknownEvent, name)
}

func decode[E Event](data []byte) (Event, error) {
	var e E
	if err := json.Unmarshal(data, &e); err != nil {
		return nil, fmt.Errorf("decode %s: %w", e.EventType(), err)
	}
	return e, nil
}
