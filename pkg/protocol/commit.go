package protocol

import (
	"errors"
	"fmt"
	"time"

	"github.com/mailru/easyjson/jlexer"
	"github.com/mailru/easyjson/jwriter"
)

// Commit is one message of an execution's log: events of one aggregate that appear together or
// not at all.
type Commit struct {
	ID     string // unique; a writer that lost its ack recognises its own commit by it
	Events []Stamped
	Body   []byte // what Encode made of Events, when the writer has it already
	last   int    // where in Body the last event begins
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

// EncodeCommit renders the body of a commit; its id travels as the header ce-id.
func EncodeCommit(c Commit) ([]byte, error) {
	err := c.Encode()
	return c.Body, err
}

const bodyBegin = `{"events":[`

// Last is the body of a commit that holds the last event alone, made from the body of this one.
func (c *Commit) Last() []byte {
	return append(append(make([]byte, 0, len(bodyBegin)+len(c.Body)-c.last), bodyBegin...), c.Body[c.last:]...)
}

// End is the event that ends the execution, which is the last one of its commit; nil when the commit holds none.
func (c *Commit) End() Event {
	if e := c.Events[len(c.Events)-1].Event; Terminal(e) {
		return e
	}
	return nil
}

// Encode renders the body of the commit.
func (c *Commit) Encode() error {
	if len(c.Events) == 0 {
		return errors.New("encode commit: no events")
	}
	w := jwriter.Writer{NoEscapeHTML: true}
	w.Buffer.Buf = make([]byte, 0, 2048)
	w.RawString(bodyBegin)
	for i, s := range c.Events {
		if i > 0 {
			w.RawByte(',')
		}
		c.last = w.Size()
		w.RawString(`{"type":"`)
		w.RawString(s.Event.EventType())
		w.RawString(`","at":`)
		s.At.MarshalEasyJSON(&w)
		w.RawString(`,"data":`)
		s.Event.MarshalEasyJSON(&w)
		w.RawByte('}')
		if w.Error != nil {
			return fmt.Errorf("encode %s: %w", s.Event.EventType(), w.Error)
		}
	}
	w.RawString(`]}`)
	body, err := w.BuildBytes()
	c.Body = body
	return err
}

// DecodeCommit reads the body of a commit, of which the events keep parts. An unknown event type is
// an error: a reader that skipped it would build a wrong state.
func DecodeCommit(id string, body []byte) (Commit, error) {
	events, err := readEvents(body)
	if err != nil {
		return Commit{}, fmt.Errorf("decode commit %s: %w", id, err)
	}
	if len(events) == 0 {
		return Commit{}, fmt.Errorf("decode commit %s: no events", id)
	}
	return Commit{ID: id, Events: events}, nil
}

// DecodeEvent reads one event by its versioned name.
func DecodeEvent(name string, data []byte) (Event, error) {
	l := jlexer.Lexer{Data: data}
	e := readEvent(name, &l)
	l.Consumed()
	if err := l.Error(); err != nil {
		return nil, fmt.Errorf("decode %q: %w", name, err)
	}
	return e, nil
}
