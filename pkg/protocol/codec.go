package protocol

import (
	"fmt"
	"io"

	"github.com/mailru/easyjson/jlexer"
	"github.com/mailru/easyjson/jwriter"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Every commit is written once and read three times (by the executor, the gateway and the projector):
// the events have generated codecs, and the types below, which they hold, have theirs here.

//go:generate go run github.com/mailru/easyjson/easyjson@v0.9.2 -all -no_std_marshalers -output_filename events_easyjson.go events.go

// The limiter is asked once for every request that has limits, and once for every node behind a queue.

//go:generate go run github.com/mailru/easyjson/easyjson@v0.9.2 -all -no_std_marshalers -output_filename limiter_easyjson.go calls_limiter.go

// MarshalEasyJSON writes TimeFormat, or null for the zero Time.
func (t Time) MarshalEasyJSON(w *jwriter.Writer) {
	if b, err := t.append(w.Buffer.Buf); err != nil {
		w.Raw(nil, err)
	} else {
		w.Buffer.Buf = b
	}
}

// UnmarshalEasyJSON reads any RFC 3339 time, or null.
func (t *Time) UnmarshalEasyJSON(l *jlexer.Lexer) {
	if raw := l.Raw(); l.Ok() {
		l.AddError(t.UnmarshalJSON(raw))
	}
}

// MarshalEasyJSON writes the document as a string.
func (v Verbatim) MarshalEasyJSON(w *jwriter.Writer) { w.Raw(v, nil) }

// UnmarshalEasyJSON reads a document back.
func (v *Verbatim) UnmarshalEasyJSON(l *jlexer.Lexer) { *v = l.Raw() }

// MarshalEasyJSON writes the wire form.
func (o Object) MarshalEasyJSON(w *jwriter.Writer) {
	switch {
	case o.Ref != "":
		w.RawString(`{"ref":`)
		w.String(o.Ref)
		w.RawString(`,"bytes":`)
		w.Int(o.Bytes)
	case o.raw != nil:
		w.RawString(`{"value":`)
		w.Raw(o.raw, nil)
	case o.values != nil:
		w.RawString(`{"value":`)
		var err error
		if w.Buffer.Buf, err = workflow.AppendJSON(w.Buffer.Buf, map[string]any(o.values)); err != nil && w.Error == nil {
			w.Error = err
		}
	default:
		w.RawByte('{')
	}
	w.RawByte('}')
}

// UnmarshalEasyJSON reads the wire form; the value itself stays encoded until it is asked for.
func (o *Object) UnmarshalEasyJSON(l *jlexer.Lexer) {
	*o = Object{}
	readObject(l, func(key string) {
		switch key {
		case "value":
			o.raw = rawObject(l)
		case "ref":
			o.Ref = l.String()
		case "bytes":
			o.Bytes = l.Int()
		default:
			l.SkipRecursive()
		}
	})
}

// rawObject takes an object as it stands. [jlexer.Lexer.Raw] would read it once more to see whether it is
// valid, which whoever takes it out finds out as well.
func rawObject(l *jlexer.Lexer) []byte {
	begin := l.GetPos() - 1 // the lexer has read its first character already
	if begin < 0 || l.Data[begin] != '{' {
		return l.Raw()
	}
	depth, inText := 0, false
	for i := begin; i < len(l.Data); i++ {
		switch c := l.Data[i]; {
		case inText && c == '\\':
			i++
		case c == '"':
			inText = !inText
		case inText:
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			if depth--; depth == 0 {
				raw := l.Data[begin : i+1 : i+1]
				*l = jlexer.Lexer{Data: l.Data[i+1:]}
				return raw
			}
		}
	}
	l.AddError(io.ErrUnexpectedEOF)
	return nil
}

// readObject calls field with each key of an object that is not null; field reads its value.
func readObject(l *jlexer.Lexer, field func(key string)) {
	if l.IsNull() {
		l.Skip()
		return
	}
	l.Delim('{')
	for !l.IsDelim('}') {
		key := l.UnsafeFieldName(false)
		l.WantColon()
		if l.IsNull() {
			l.Skip()
		} else {
			field(key)
		}
		l.WantComma()
	}
	l.Delim('}')
}

// readEvents reads the body of a commit.
func readEvents(body []byte) ([]Stamped, error) {
	l := jlexer.Lexer{Data: body}
	var events []Stamped
	readObject(&l, func(key string) {
		if key != "events" {
			l.SkipRecursive()
			return
		}
		events = make([]Stamped, 0, 8)
		l.Delim('[')
		for !l.IsDelim(']') {
			events = append(events, readStamped(&l))
			if !l.Ok() {
				return
			}
			l.WantComma()
		}
		l.Delim(']')
	})
	l.Consumed()
	if err := l.Error(); err != nil {
		return nil, fmt.Errorf("event %d: %w", max(0, len(events)-1), err)
	}
	return events, nil
}

func readStamped(l *jlexer.Lexer) Stamped {
	var s Stamped
	var name string
	var early []byte // data that stood before its type
	readObject(l, func(key string) {
		switch key {
		case "type":
			name = l.UnsafeString()
		case "at":
			s.At.UnmarshalEasyJSON(l)
		case "data":
			if name == "" {
				early = l.Raw()
				return
			}
			s.Event = readEvent(name, l)
		default:
			l.SkipRecursive()
		}
	})
	if s.Event == nil && l.Ok() {
		var err error
		s.Event, err = DecodeEvent(name, early)
		l.AddError(err)
	}
	return s
}

// readEvent reads one event by its versioned name.
func readEvent(name string, l *jlexer.Lexer) Event {
	switch name {
	case "requested.v1":
		return read[Requested](l)
	case "started.v1":
		return read[Started](l)
	case "node_completed.v1":
		return read[NodeCompleted](l)
	case "node_failed.v1":
		return read[NodeFailed](l)
	case "node_rate_limited.v1":
		return read[NodeRateLimited](l)
	case "cancel_requested.v1":
		return read[CancelRequested](l)
	case "carried.v1":
		return read[Carried](l)
	case "completed.v1":
		return read[Completed](l)
	case "failed.v1":
		return read[Failed](l)
	case "timed_out.v1":
		return read[TimedOut](l)
	case "cancelled.v1":
		return read[Cancelled](l)
	}
	l.AddError(fmt.Errorf("%w: %q", ErrUnknownEvent, name))
	return nil
}

func read[E Event, P interface {
	*E
	UnmarshalEasyJSON(l *jlexer.Lexer)
}](l *jlexer.Lexer) Event {
	var e E
	P(&e).UnmarshalEasyJSON(l)
	return e
}
