package api

import (
	"net/http"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// problemKind is what every problem of one code has in common.
type problemKind struct {
	code      protocol.Code
	status    int
	title     string
	execution bool   // about an execution, whose id goes with it
	example   string // of its detail
	advice    string // what a client does about it, for docs/errors.md
}

// problems is the registry: the one place where codes meet HTTP statuses. A test holds it against
// the codes of package protocol and against docs/errors.md, which is written from it.
var problems = []problemKind{
	{
		protocol.CodeMalformed, http.StatusBadRequest, "The body cannot be read", false,
		"invalid character '}' looking for beginning of value", "Send JSON in UTF-8, nested at most 500 levels.",
	},
	{
		protocol.CodeWorkflowInvalid, http.StatusBadRequest, "The workflow is not valid", false,
		"E008: node ask names the source model, which neither the workflow nor the tenant has", "Mend what `errors` lists; `POST /workflows/validate` shows the same.",
	},
	{
		codeBadRequest, http.StatusBadRequest, "The request cannot be read", false,
		"the request is not HTTP as this gateway understands it", "Mend the client or the proxy before it.",
	},
	{
		protocol.CodeUnauthenticated, http.StatusUnauthorized, "A valid API key is needed", false,
		"send an API key as X-API-Key, or as Authorization: Bearer", "Send a key that is neither revoked nor expired.",
	},
	{
		protocol.CodeForbidden, http.StatusForbidden, "Not allowed", false,
		"this key does not have the scope workflows:write", "Use a key of the right tenant and scope; a suspended tenant has to be activated.",
	},
	{
		codeForeign, http.StatusForbidden, "The request comes from a foreign page", false,
		"this gateway asks for no keys, so it takes no writes from pages of other sites: https://evil.example.com", "Call it by its own address, not from a page of another site; or set `AUTH_REQUIRED=true` or `CORS_ORIGINS`.",
	},
	{
		protocol.CodeNotFound, http.StatusNotFound, "Not found", false,
		"workflow wf_01jd2v8m6hf5qrgq2s9n0w3x4y: not found", "Check the id.",
	},
	{
		codeNoRoute, http.StatusNotFound, "No such address", false,
		"nothing is served at this address; /docs lists what is", "Check the address.",
	},
	{
		codeMethod, http.StatusMethodNotAllowed, "The address does not take this method", false,
		"the address exists, but not for this method; the Allow header lists those it takes", "Use one of the methods in `Allow`.",
	},
	{
		codeSlowRequest, http.StatusRequestTimeout, "The request took too long to arrive", false,
		"the request did not arrive in time", "Send it again; within `HTTP_READ_TIMEOUT_SECONDS`.",
	},
	{
		protocol.CodeConflict, http.StatusConflict, "The present state forbids it", false,
		"source support-model is used by workflow wf_01jd2v8m6hf5qrgq2s9n0w3x4y", "Change the state that `detail` names, then try again.",
	},
	{
		protocol.CodeCancelled, http.StatusConflict, "The execution was cancelled", true,
		"the execution was cancelled: changed my mind", "Nothing: somebody wanted it.",
	},
	{
		protocol.CodeVersionMismatch, http.StatusPreconditionFailed, "Changed meanwhile", false,
		"the workflow has version 4", "Read it again, apply the change to what it is now, and send the new `ETag`.",
	},
	{
		protocol.CodeTooLarge, http.StatusRequestEntityTooLarge, "Too large", false,
		"the body is larger than this gateway takes", "Send less than `BODY_LIMIT_BYTES` (1 MiB).",
	},
	{
		codeMediaType, http.StatusUnsupportedMediaType, "The body is not JSON", false,
		"send JSON, without a Content-Encoding", "Send plain JSON, not compressed.",
	},
	{
		protocol.CodeInvalid, http.StatusUnprocessableEntity, "A field breaks a rule", false,
		"body.start_node: Field required", "Mend what `errors` lists.",
	},
	{
		protocol.CodeIdempotency, http.StatusUnprocessableEntity, "The Idempotency-Key was used for another request", false,
		"this Idempotency-Key was used for another request within the last 24 hours", "Use a new key for a new request.",
	},
	{
		protocol.CodeRateLimited, http.StatusTooManyRequests, "A limit is used up", false,
		"the limit on requests per minute is used up; try again after the time in Retry-After", "Wait for `Retry-After`.",
	},
	{
		codeHeaderTooLarge, http.StatusRequestHeaderFieldsTooLarge, "The headers are too large", false,
		"the request line and headers are larger than this gateway takes", "Send less than `HEADER_LIMIT_BYTES` (16 KiB).",
	},
	{
		protocol.CodeInternal, http.StatusInternalServerError, "Internal error", false,
		"something went wrong on our side; it has been recorded under the request id", "Try again; if it stays, report the `request_id`.",
	},
	{
		protocol.CodeNodeFailed, http.StatusInternalServerError, "The execution failed", true,
		"node ask: the provider answered 400", "Read the events of the execution; mend the workflow or the source.",
	},
	{
		protocol.CodeConditionFailed, http.StatusInternalServerError, "The execution failed", true,
		"the condition of edges[2] cannot be evaluated: no such key: order", "Mend the condition, or the state it reads.",
	},
	{
		protocol.CodeLoopLimit, http.StatusInternalServerError, "The execution failed", true,
		"the loop ran 25 times", "Mend the condition that ends the loop, or raise `max_iterations`.",
	},
	{
		protocol.CodeDeliveryExhausted, http.StatusInternalServerError, "The execution failed", true,
		"5 executors stopped while they ran this execution", "Look at the executors' logs; something in this execution ends them.",
	},
	{
		protocol.CodeSpecUnavailable, http.StatusInternalServerError, "The execution failed", true,
		"the document of this execution is no longer kept", "Start it again.",
	},
	{
		protocol.CodeStateTooLarge, http.StatusInternalServerError, "The execution failed", true,
		"the state would be larger than an execution may hold", "Keep less in the state.",
	},
	{
		protocol.CodeUnavailable, http.StatusServiceUnavailable, "A part of the platform is away", false,
		"a part of the platform does not answer; try again", "Wait for `Retry-After`. With an `execution_id`: look it up, or repeat with an `Idempotency-Key`.",
	},
	{
		protocol.CodeLogFull, http.StatusServiceUnavailable, "The execution log is full", false,
		"the execution log takes nothing new until older executions are archived; try again", "Wait for `Retry-After`; the operator looks at Postgres and the projector's lag.",
	},
	{
		codeDraining, http.StatusServiceUnavailable, "The gateway is about to end", false,
		"this gateway is about to end; try again, another one will answer", "Try again: another gateway answers.",
	},
	{
		protocol.CodeTimedOut, http.StatusGatewayTimeout, "The execution timed out", true,
		"node ask timed out after 60000 ms", "Raise `timeout_seconds` of the node or the execution; `partial_state` holds what was reached.",
	},
}

// kinds are the problems by their codes.
var kinds = func() map[protocol.Code]problemKind {
	m := make(map[protocol.Code]problemKind, len(problems))
	for _, p := range problems {
		m[p.code] = p
	}
	return m
}()

// kindOf is the kind of a code; of one that nobody knows, INTERNAL's.
func kindOf(code protocol.Code) problemKind {
	if k, ok := kinds[code]; ok {
		return k
	}
	return kinds[protocol.CodeInternal]
}
