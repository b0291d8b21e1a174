package protocol

import "errors"

// Code is the stable name of an error: the same error has the same code from every service,
// in problem documents, in events and in replies.
type Code string

// Codes of refused requests.
const (
	CodeInvalid         Code = "INVALID"          // a field breaks a rule
	CodeMalformed       Code = "MALFORMED"        // the body is no JSON of the wanted shape
	CodeWorkflowInvalid Code = "WORKFLOW_INVALID" // a spec has validation errors
	CodeUnauthenticated Code = "UNAUTHENTICATED"  // no key, or not a valid one
	CodeForbidden       Code = "FORBIDDEN"        // the key or tenant may not do this
	CodeNotFound        Code = "NOT_FOUND"
	CodeConflict        Code = "CONFLICT"           // the state of the thing forbids it
	CodeVersionMismatch Code = "VERSION_MISMATCH"   // If-Match names an older version
	CodeIdempotency     Code = "IDEMPOTENCY_REUSED" // same Idempotency-Key, another body
	CodeTooLarge        Code = "TOO_LARGE"          // body over the limit
	CodeRateLimited     Code = "RATE_LIMITED"       // a limit is used up: wait
	CodeUnavailable     Code = "UNAVAILABLE"        // a part of the platform is away: try again
	CodeLogFull         Code = "LOG_FULL"           // the execution log takes nothing more for now
	CodeInternal        Code = "INTERNAL"           // our fault
)

// Codes of executions that did not complete.
const (
	CodeNodeFailed        Code = "NODE_FAILED"
	CodeConditionFailed   Code = "CONDITION_FAILED"
	CodeLoopLimit         Code = "LOOP_LIMIT"
	CodeTimedOut          Code = "TIMED_OUT"
	CodeCancelled         Code = "CANCELLED"
	CodeDeliveryExhausted Code = "DELIVERY_EXHAUSTED"
	CodeSpecUnavailable   Code = "SPEC_UNAVAILABLE"
	CodeStateTooLarge     Code = "STATE_TOO_LARGE"
)

// Error is a refusal that travels between services and to the user.
type Error struct {
	Code         Code   `json:"code"`
	Message      string `json:"message"`
	Field        string `json:"field,omitempty"`          // the path of the field at fault
	RetryAfterMS int64  `json:"retry_after_ms,omitempty"` // when it makes sense to try again
	Details      any    `json:"details,omitempty"`        // for example every validation problem
}

func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Is matches any *Error of the same code, so errors.Is(err, &Error{Code: CodeNotFound}) asks for the kind.
func (e *Error) Is(target error) bool {
	var t *Error
	return errors.As(target, &t) && t.Code == e.Code
}

// CodeOf returns the code an error carries, CodeInternal when it carries none, "" for nil.
func CodeOf(err error) Code {
	if err == nil {
		return ""
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return CodeInternal
}
