package protocol

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/mailru/easyjson/jlexer"
	"github.com/mailru/easyjson/jwriter"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Object is a JSON object inside an event: inline, or, when it is too large for a commit, a
// reference to the object store. On the wire it is {"value":{…}} or {"ref":"…","bytes":n}, and {}
// where there is neither.
//
// An Object made by ObjectOf keeps the decoded form, so that what was just produced is not
// decoded again by the fold.
type Object struct {
	Ref   string // name in the object store; "" when inline
	Bytes int    // encoded size of a referenced value

	values workflow.Values
	raw    json.RawMessage
}

// ErrUnresolved is returned for the value of a reference that nobody has fetched yet.
var ErrUnresolved = errors.New("value stands in the object store")

// ObjectOf wraps decoded values; they must not be changed afterwards.
func ObjectOf(v workflow.Values) Object { return Object{values: v} }

// RawObject wraps an encoded JSON object, which must be valid: it is written as it is.
func RawObject(raw json.RawMessage) Object { return Object{raw: raw} }

// ReferTo replaces a value by a reference to where it was put.
func ReferTo(name string, size int) Object { return Object{Ref: name, Bytes: size} }

// IsZero tells that there is neither a value nor a reference.
func (o Object) IsZero() bool { return o.Ref == "" && o.values == nil && o.raw == nil }

// Values decodes the object, or returns ErrUnresolved for a bare reference.
func (o Object) Values() (workflow.Values, error) {
	switch {
	case o.values != nil:
		return o.values, nil
	case o.raw != nil:
		return workflow.DecodeValues(o.raw)
	case o.Ref != "":
		return nil, fmt.Errorf("%s: %w", o.Ref, ErrUnresolved)
	}
	return workflow.Values{}, nil
}

// Raw encodes the object, or returns ErrUnresolved for a bare reference.
func (o Object) Raw() (json.RawMessage, error) {
	switch {
	case o.raw != nil:
		return o.raw, nil
	case o.values != nil:
		return workflow.AppendJSON(nil, map[string]any(o.values))
	case o.Ref != "":
		return nil, fmt.Errorf("%s: %w", o.Ref, ErrUnresolved)
	}
	return json.RawMessage("{}"), nil
}

// Resolved returns the object with the fetched value of its reference.
func (o Object) Resolved(raw json.RawMessage) Object {
	o.raw = raw
	return o
}

// MarshalJSON writes the wire form.
func (o Object) MarshalJSON() ([]byte, error) {
	var w jwriter.Writer
	o.MarshalEasyJSON(&w)
	return w.BuildBytes()
}

// UnmarshalJSON reads the wire form; the value itself stays encoded until it is asked for.
func (o *Object) UnmarshalJSON(b []byte) error {
	l := jlexer.Lexer{Data: bytes.Clone(b)}
	o.UnmarshalEasyJSON(&l)
	return l.Error()
}
