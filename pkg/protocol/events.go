package protocol

import (
	"bytes"
	"encoding/json"
	"strconv"

	"github.com/mailru/easyjson"
	"github.com/mailru/easyjson/jlexer"
	"github.com/mailru/easyjson/jwriter"
)

// Event is one fact in the life of an execution. The set is sealed: the fold in package
// execution handles every one.
//
//sumtype:decl
type Event interface {
	// EventType is the versioned name on the wire, for example node_completed.v1.
	EventType() string
	easyjson.Marshaler
	event()
}

// Requested accepts an execution: it is the first event, and the job itself.
type Requested struct {
	WorkflowID      string      `json:"workflow_id,omitempty"` // empty for an inline spec
	WorkflowVersion int         `json:"workflow_version,omitempty"`
	WorkflowName    string      `json:"workflow_name,omitempty"`
	SpecHash        string      `json:"spec_hash"`      // of the resolved document
	Spec            Verbatim    `json:"spec,omitempty"` // a small one rides along; else it stands in the bucket specs
	Input           Object      `json:"input"`          // the caller's initial_state
	Deadline        Time        `json:"deadline"`
	MaxIterations   int         `json:"max_iterations"`
	Actor           string      `json:"actor,omitempty"` // id of the key that asked
	RequestID       string      `json:"request_id,omitempty"`
	Tags            []string    `json:"tags,omitempty"`
	Reply           string      `json:"reply,omitempty"` // inbox of a waiting gateway
	RerunOf         ExecutionID `json:"rerun_of,omitempty"`
}

// Verbatim is a document that keeps its bytes: embedded as JSON it would be compacted on the
// way, and its content hash would no longer be its own. It is held as it travels, as a JSON string:
// a document goes along with every execution, and hardly anybody who reads its events looks at it.
type Verbatim []byte

// VerbatimOf holds a document; there is none in an empty one.
func VerbatimOf(doc []byte) Verbatim {
	if len(doc) == 0 {
		return nil
	}
	w := jwriter.Writer{NoEscapeHTML: true}
	w.String(string(doc))
	quoted, _ := w.BuildBytes() // writing to memory never fails
	return quoted
}

// Document is the document itself.
func (v Verbatim) Document() (json.RawMessage, error) {
	if len(v) == 0 {
		return nil, nil
	}
	l := jlexer.Lexer{Data: v}
	doc := l.String()
	return json.RawMessage(doc), l.Error()
}

// MarshalJSON writes the document as a string.
func (v Verbatim) MarshalJSON() ([]byte, error) { return v, nil }

// UnmarshalJSON reads a document back.
func (v *Verbatim) UnmarshalJSON(b []byte) error {
	*v = bytes.Clone(b)
	return nil
}

// Started says that an executor is about to touch the outside world for this execution.
type Started struct {
	Executor string `json:"executor"`
	Delivery int    `json:"delivery"` // 1 for the first executor, one more with each takeover since a node ended
}

// NodeCompleted is a node run that ended well.
type NodeCompleted struct {
	Node       string  `json:"node"`
	Iteration  int     `json:"iteration"`
	Attempt    int     `json:"attempt"`
	Delta      Object  `json:"delta"`
	Intent     *string `json:"intent,omitempty"` // what a router chose
	Edges      []int   `json:"edges"`            // the edges followed, as indexes into the plan
	Tokens     int64   `json:"tokens,omitempty"`
	Cost       string  `json:"cost,omitempty"` // decimal
	StartedAt  Time    `json:"started_at"`
	DurationMS int64   `json:"duration_ms"`
}

// NodeFailed is an attempt that ended badly. Without NextTryAt the node is given up: then
// either the execution fails, or Edges says how on_error goes on.
type NodeFailed struct {
	Node       string  `json:"node"`
	Iteration  int     `json:"iteration"`
	Attempt    int     `json:"attempt"`
	Error      Failure `json:"error"`
	NextTryAt  Time    `json:"next_try_at"`
	Handled    bool    `json:"handled,omitempty"` // on_error: continue or branch
	Edges      []int   `json:"edges,omitempty"`   // followed, when handled
	StartedAt  Time    `json:"started_at"`
	DurationMS int64   `json:"duration_ms"`
}

// NodeRateLimited says that a node waits for room in a queue.
type NodeRateLimited struct {
	Node      string `json:"node"`
	Iteration int    `json:"iteration"`
	Queue     string `json:"queue"`
	Metric    Metric `json:"limiting_metric"`
	RetryAt   Time   `json:"retry_at"`
}

// CancelRequested comes from outside the executor: whoever runs the execution folds it and ends.
type CancelRequested struct {
	Actor  string `json:"actor,omitempty"`
	Reason string `json:"reason,omitempty"`
}

// Carried repeats the whole state at the tail of the log, so that a long wait pins nothing old.
type Carried struct {
	Requested Requested       `json:"requested"` // with the spec itself
	Snapshot  json.RawMessage `json:"snapshot"`  // execution.Snapshot
}

// Totals closes the account of an execution.
type Totals struct {
	TokensUsed int64  `json:"tokens_used"`
	Cost       string `json:"cost"` // decimal
	NodesRun   int    `json:"nodes_run"`
	DurationMS int64  `json:"duration_ms"` // from requested to this event
}

// Completed is the good end.
type Completed struct {
	State  Object `json:"state"`
	Totals Totals `json:"totals"`
}

// Failed is the end by an error.
type Failed struct {
	Error  Failure `json:"error"`
	State  Object  `json:"state"` // as far as it came
	Totals Totals  `json:"totals"`
}

// Scopes of a timeout.
const (
	ScopeExecution = "execution"
	ScopeNode      = "node"
)

// TimedOut is the end by a deadline.
type TimedOut struct {
	Scope     string `json:"scope"` // execution or node
	Node      string `json:"node,omitempty"`
	ElapsedMS int64  `json:"elapsed_ms"`
	State     Object `json:"state"`
	Totals    Totals `json:"totals"`
}

// Cancelled is the end by request.
type Cancelled struct {
	Actor  string `json:"actor,omitempty"`
	Reason string `json:"reason,omitempty"`
	State  Object `json:"state"`
	Totals Totals `json:"totals"`
}

// Failure says why a node or an execution failed.
type Failure struct { //nolint:errname // it is data of events first, and an error by the way
	Code         Code   `json:"code"`
	Message      string `json:"message"`
	Node         string `json:"node,omitempty"`
	Class        string `json:"class,omitempty"`  // timeout, 5xx, 429, network, …
	Status       int    `json:"status,omitempty"` // of an outside answer
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"`
}

func (f Failure) Error() string {
	if f.Node == "" {
		return f.Message
	}
	return "node " + f.Node + ": " + f.Message
}

// Failure is how the end by a deadline reads as an error.
func (e TimedOut) Failure() *Failure {
	who := "the execution"
	if e.Scope == ScopeNode {
		who = "node " + e.Node
	}
	message := who + " did not end within its time (" + strconv.FormatInt(e.ElapsedMS, 10) + " ms)"
	return &Failure{Code: CodeTimedOut, Message: message, Node: e.Node}
}

// Failure is how the end by request reads as an error.
func (e Cancelled) Failure() *Failure {
	message := "cancelled"
	if e.Reason != "" {
		message += ": " + e.Reason
	}
	return &Failure{Code: CodeCancelled, Message: message}
}

// EventType names the event on the wire.
func (Requested) EventType() string       { return "requested.v1" }
func (Started) EventType() string         { return "started.v1" }
func (NodeCompleted) EventType() string   { return "node_completed.v1" }
func (NodeFailed) EventType() string      { return "node_failed.v1" }
func (NodeRateLimited) EventType() string { return "node_rate_limited.v1" }
func (CancelRequested) EventType() string { return "cancel_requested.v1" }
func (Carried) EventType() string         { return "carried.v1" }
func (Completed) EventType() string       { return "completed.v1" }
func (Failed) EventType() string          { return "failed.v1" }
func (TimedOut) EventType() string        { return "timed_out.v1" }
func (Cancelled) EventType() string       { return "cancelled.v1" }

func (Requested) event()       {}
func (Started) event()         {}
func (NodeCompleted) event()   {}
func (NodeFailed) event()      {}
func (NodeRateLimited) event() {}
func (CancelRequested) event() {}
func (Carried) event()         {}
func (Completed) event()       {}
func (Failed) event()          {}
func (TimedOut) event()        {}
func (Cancelled) event()       {}

// Job tells whether a commit that begins with the event is a job: whoever is free has to look at the
// execution.
func Job(e Event) bool {
	switch e.(type) {
	case Requested, CancelRequested, Carried:
		return true
	case Started, NodeCompleted, NodeFailed, NodeRateLimited, Completed, Failed, TimedOut, Cancelled:
	}
	return false
}

// Terminal tells whether an event ends its execution.
func Terminal(e Event) bool {
	switch e.(type) {
	case Completed, Failed, TimedOut, Cancelled:
		return true
	case Requested, Started, NodeCompleted, NodeFailed, NodeRateLimited, CancelRequested, Carried:
	}
	return false
}
