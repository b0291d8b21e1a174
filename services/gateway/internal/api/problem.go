package api

import (
	"encoding/json"
	"strings"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Codes that only HTTP knows; all others come from package protocol.
const (
	codeNoRoute        protocol.Code = "NO_ROUTE"
	codeMethod         protocol.Code = "METHOD_NOT_ALLOWED"
	codeHeaderTooLarge protocol.Code = "HEADERS_TOO_LARGE"
	codeSlowRequest    protocol.Code = "REQUEST_TIMEOUT"
	codeBadRequest     protocol.Code = "BAD_REQUEST"
	codeDraining       protocol.Code = "DRAINING"
	codeMediaType      protocol.Code = "UNSUPPORTED_MEDIA_TYPE"
	codeForeign        protocol.Code = "FOREIGN_ORIGIN"
)

// problemType is the URI of a code: a name, not an address.
func problemType(code protocol.Code) string {
	return "urn:agentflow:problem:" + strings.ToLower(strings.ReplaceAll(string(code), "_", "-"))
}

// Problem is an error as clients see it (RFC 9457).
type Problem struct {
	Type        string       `json:"type" doc:"URI of the kind of problem, one for each code" example:"urn:agentflow:problem:not-found"`
	Title       string       `json:"title" doc:"The kind of problem in words" example:"Not found"`
	Status      int          `json:"status" doc:"HTTP status" example:"404"`
	Detail      string       `json:"detail" doc:"What is wrong this time, and what to do" example:"workflow wf_01jd2v8m6hf5qrgq2s9n0w3x4y: not found"`
	Code        string       `json:"code" doc:"Stable name of the kind of problem" example:"NOT_FOUND"`
	RequestID   string       `json:"request_id,omitempty" doc:"The X-Request-ID of the answer; quote it when you ask for help"`
	ExecutionID string       `json:"execution_id,omitempty" doc:"The execution that did not complete"`
	Errors      []FieldError `json:"errors,omitempty" doc:"Everything that is wrong, one entry each"`

	Timeout      *TimeoutDetail  `json:"timeout,omitempty" doc:"Which deadline ended the execution"`
	PartialState json.RawMessage `json:"partial_state,omitempty" doc:"The state of a timed-out execution, as far as it came"`

	frozen       bool // answered in the shapes of Phase 1
	retryAfterMS int64
	shape        []shapeDetail // the errors as Phase 1 lists them
	report       []workflow.Problem
	execution    string // the error of a failed execution
}

// TimeoutDetail says which deadline ended an execution.
type TimeoutDetail struct {
	Scope     string `json:"scope" enum:"execution,node"`
	Node      string `json:"node,omitempty"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

// FieldError is one thing wrong with a request.
type FieldError struct {
	Location string `json:"location,omitempty" doc:"Where: body.nodes[0].id, query.limit, header.If-Match"`
	Message  string `json:"message" doc:"What is wrong"`
	Type     string `json:"type,omitempty" doc:"Kind of validation error"`
	Code     string `json:"code,omitempty" doc:"Code of a workflow validation error, E001 to E014"`
	NodeID   string `json:"node_id,omitempty" doc:"The node at fault"`
}

// newProblem makes the problem of a code.
func newProblem(code protocol.Code, detail string) *Problem {
	k := kindOf(code)
	return &Problem{Type: problemType(code), Title: k.title, Status: k.status, Detail: detail, Code: string(code)}
}

func (p *Problem) Error() string { return p.Code + ": " + p.Detail }

// GetStatus tells huma the status.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType tells huma the media type.
func (p *Problem) ContentType(string) string {
	if p.frozen {
		return "application/json"
	}
	return "application/problem+json"
}

type plainProblem Problem

// MarshalJSON writes the problem document, or under /api/v1 what Phase 1 answered.
func (p *Problem) MarshalJSON() ([]byte, error) {
	if !p.frozen {
		return encode((*plainProblem)(p))
	}
	return encode(FrozenError{Detail: p.frozenDetail()})
}

func (p *Problem) frozenDetail() any {
	switch {
	case p.Code == string(codeNoRoute):
		return "Not Found"
	case p.Code == string(codeMethod):
		return "Method Not Allowed"
	case p.shape != nil:
		return p.shape
	case p.report != nil:
		return struct {
			Message string             `json:"message"`
			Errors  []workflow.Problem `json:"errors"`
		}{"Workflow validation failed", p.report}
	case p.execution != "":
		return struct {
			Message   string          `json:"message"`
			Error     string          `json:"error"`
			Execution string          `json:"execution_id"`
			Timeout   *TimeoutDetail  `json:"timeout,omitempty"`
			Partial   json.RawMessage `json:"partial_state,omitempty"`
		}{"Workflow execution failed", p.execution, p.ExecutionID, p.Timeout, p.PartialState}
	case p.Code == string(protocol.CodeNotFound):
		return struct {
			Message string `json:"message"`
		}{p.Detail}
	}
	return struct {
		Message   string       `json:"message"`
		Code      string       `json:"code"`
		RequestID string       `json:"request_id,omitempty"`
		Execution string       `json:"execution_id,omitempty"`
		Errors    []FieldError `json:"errors,omitempty"`
	}{p.Detail, p.Code, p.RequestID, p.ExecutionID, p.Errors}
}

// shapeDetail is one entry of a 422 of Phase 1, which had it from its framework.
type shapeDetail struct {
	Type  string `json:"type"`
	Loc   []any  `json:"loc"` // strings and indexes, "body" first
	Msg   string `json:"msg"`
	Input any    `json:"input"`
}
