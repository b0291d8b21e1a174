package engine

import (
	"errors"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// ending is the error that the span of an execution ends with: an executor that lets go of one has not failed.
func ending(end protocol.Event, err error) error {
	switch e := end.(type) {
	case protocol.Failed:
		return &protocol.Error{Code: e.Error.Code}
	case protocol.TimedOut:
		return &protocol.Error{Code: protocol.CodeTimedOut}
	case protocol.Completed, protocol.Cancelled, protocol.Requested, protocol.Started, protocol.NodeCompleted, protocol.NodeFailed,
		protocol.NodeRateLimited, protocol.CancelRequested, protocol.Carried, nil:
	}
	if errors.Is(err, errHandOver) || errors.Is(err, errCarried) {
		return nil
	}
	return err
}

// failed is the error that the span of a node ends with.
func failed(err error) error {
	if err == nil {
		return nil
	}
	return &protocol.Error{Code: classified(err).Code}
}
