// Package start is the beginning and the end of an execution, seen from the gateway: it makes an
// order ready (parse, validate, resolve), appends its requested event, and waits for the outcome.
//
// It runs nothing. Once Begin has returned, the execution is in the log and goes on without this
// process; waiting for it is only waiting.
package start

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Order is what a client asks to be run.
type Order struct {
	Tenant    protocol.TenantID
	Actor     string
	RequestID string

	WorkflowID string          // a stored workflow, or
	Spec       json.RawMessage // one that came along

	Input         json.RawMessage // a JSON object; nil for an empty one
	Timeout       time.Duration   // 0: what the spec says, else the default
	MaxIterations int             // 0: what the spec says, else the default
	Tags          []string

	Rerun *Rerun // instead of a workflow and all of the above: what another execution had

	Wait bool // someone will wait for the outcome

	// IdempotencyKey makes the order safe to repeat; Fingerprint tells whether it is the same order.
	IdempotencyKey string
	Fingerprint    string

	reused []protocol.Event // of a rerun, what the execution begins with
}

// Errors of Begin and Wait, beside those of the bus and *workflow.ShapeError.
var (
	// ErrReused says that another order was given under the same idempotency key.
	ErrReused = &protocol.Error{
		Code:    protocol.CodeIdempotency,
		Message: "this Idempotency-Key was used for another request within the last 24 hours",
		Field:   "header.Idempotency-Key",
	}
	// ErrNoOutcome says that the deadline has passed and the log still has no end. The execution is
	// not lost: it ends when an executor takes it up.
	ErrNoOutcome = errors.New("no outcome yet")
)

// InvalidError says that a spec has validation errors.
type InvalidError struct{ Report workflow.Report }

func (e *InvalidError) Error() string { return "workflow validation failed" }

// UncertainError says that the execution may or may not have been accepted: the log did not answer.
type UncertainError struct {
	ID  protocol.ExecutionID
	Err error
}

func (e *UncertainError) Error() string { return "start " + string(e.ID) + ": " + e.Err.Error() }
func (e *UncertainError) Unwrap() error { return e.Err }
