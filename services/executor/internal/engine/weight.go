package engine

import (
	"encoding/json"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// weightOf is about how many bytes the values in commits take.
func weightOf(records []protocol.Record) int {
	n := 0
	for _, rec := range records {
		for _, e := range rec.Events {
			switch e := e.Event.(type) {
			case protocol.Requested:
				n += read(e.Input)
			case protocol.NodeCompleted:
				n += read(e.Delta)
			case protocol.Carried:
				n += len(e.Snapshot)
			case protocol.NodeFailed:
				n += len(e.Error.Message)
			case protocol.Started, protocol.NodeRateLimited, protocol.CancelRequested,
				protocol.Completed, protocol.Failed, protocol.TimedOut, protocol.Cancelled:
			}
		}
	}
	return n
}

// read is the size of a value as it was read.
func read(o protocol.Object) int {
	raw, err := o.Raw()
	if err != nil {
		return o.Bytes
	}
	return len(raw)
}

// weight is about how many bytes a value takes that was just made, without encoding it.
func weight(o protocol.Object) int {
	values, err := o.Values()
	if err != nil {
		return o.Bytes
	}
	return weigh(map[string]any(values))
}

// weightOfEvent is about how many bytes an event takes that was just made.
func weightOfEvent(e protocol.Event) int {
	switch e := e.(type) {
	case protocol.NodeCompleted:
		return weight(e.Delta)
	case protocol.NodeFailed:
		return len(e.Error.Message)
	default:
		return 0
	}
}

// scalar is what a number, a bool or null takes, and what surrounds any value.
const scalar = 8

func weigh(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) + scalar
	case json.Number:
		return len(v) + scalar
	case []any:
		n := scalar
		for _, item := range v {
			n += weigh(item)
		}
		return n
	case map[string]any:
		n := scalar
		for key, item := range v {
			n += len(key) + scalar + weigh(item)
		}
		return n
	}
	return scalar
}
