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
			n += weightOfEvent(e.Event, read)
		}
	}
	return n
}

// weightOfEvent is about how many bytes the values of an event take, each as value says.
func weightOfEvent(e protocol.Event, value func(protocol.Object) int) int {
	switch e := e.(type) {
	case protocol.Requested:
		return value(e.Input)
	case protocol.NodeCompleted:
		return value(e.Delta)
	case protocol.Carried:
		return len(e.Snapshot)
	case protocol.NodeFailed:
		return len(e.Error.Message)
	case protocol.Started, protocol.NodeRateLimited, protocol.CancelRequested,
		protocol.Completed, protocol.Failed, protocol.TimedOut, protocol.Cancelled:
	}
	return 0
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
