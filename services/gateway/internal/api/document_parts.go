package api

import (
	"net/http"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// responseName is what the answer to an error is called in the document.
func responseName(status int, frozen bool) string {
	name := strings.ReplaceAll(http.StatusText(status), " ", "")
	if frozen {
		return "Frozen" + name
	}
	return name
}

// sharedResponses are the answers to errors, one for each status at the root and under /api/v1, with
// an example of each code.
func sharedResponses() object {
	out := object{}
	byStatus := map[int][]problemKind{}
	for _, p := range problems {
		byStatus[p.status] = append(byStatus[p.status], p)
	}
	delete(byStatus, http.StatusMethodNotAllowed) // the answer where there is no operation
	for status, kinds := range byStatus {
		out[responseName(status, false)] = errorResponse(status, kinds, false)
		out[responseName(status, true)] = errorResponse(status, kinds, true)
	}
	return out
}

func errorResponse(status int, kinds []problemKind, frozen bool) object {
	headers := object{"X-Request-ID": ref("headers", "X-Request-ID")}
	switch status {
	case http.StatusUnauthorized:
		headers[fiber.HeaderWWWAuthenticate] = ref("headers", fiber.HeaderWWWAuthenticate)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		headers[fiber.HeaderRetryAfter] = ref("headers", fiber.HeaderRetryAfter)
	}
	problems, shapes := object{}, object{}
	codes := make([]string, len(kinds))
	for i, kind := range kinds {
		codes[i] = "`" + string(kind.code) + "`"
		p := newProblem(kind.code, kind.example)
		p.RequestID = "req_01jd2v8m6hf5qrgq2s9n0w3x4y"
		if kind.execution {
			p.ExecutionID = exampleIDs["executions"]
		}
		problems[string(kind.code)] = object{"summary": kind.title, "value": (*plainProblem)(p)}
		p = newProblem(kind.code, kind.example)
		p.frozen = true
		if status == http.StatusUnprocessableEntity {
			p.shape = []shapeDetail{{Type: "value_error", Loc: []any{"body"}, Msg: kind.example}}
		}
		if kind.execution {
			p.execution, p.ExecutionID = kind.example, exampleIDs["executions"]
		}
		shapes[string(kind.code)] = object{"summary": kind.title, "value": FrozenError{Detail: p.frozenDetail()}}
	}
	problem := object{"schema": ref("schemas", "Problem"), "examples": problems}
	content := object{"application/problem+json": problem}
	if frozen {
		content = object{fiber.MIMEApplicationJSON: object{"schema": ref("schemas", "FrozenError"), "examples": shapes}}
		if beforeRouting(status) {
			content["application/problem+json"] = problem
		}
	}
	return object{
		"description": http.StatusText(status) + ": " + strings.Join(codes, ", "),
		"headers":     headers, "content": content,
	}
}

// beforeRouting tells whether a status can be the answer to a request whose address was not read.
func beforeRouting(status int) bool {
	switch status {
	case http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge, http.StatusRequestHeaderFieldsTooLarge:
		return true
	}
	return false
}

func sharedHeaders() object {
	header := func(description, kind string, example any) object {
		return object{"description": description, "schema": object{"type": kind}, "example": example}
	}
	return object{
		"X-Request-ID":              header("Name of the request, in logs and reports; the client's own when it sent one", "string", "req_01jd2v8m6hf5qrgq2s9n0w3x4y"),
		fiber.HeaderRetryAfter:      header("Seconds after which it makes sense to try again", "integer", 2),
		fiber.HeaderWWWAuthenticate: header("How to say who asks", "string", `Bearer realm="agentflow"`),
		fiber.HeaderLocation:        header("Where to look for what was made", "string", "/executions/"+exampleIDs["executions"]),
		headerReplayed:              header("true when the answer is that of an earlier request with the same Idempotency-Key", "string", "true"),
	}
}

func sharedParameters() object {
	parameter := func(name, in, description string, schema object, example any) object {
		return object{"name": name, "in": in, "description": description, "schema": schema, "example": example}
	}
	text := func(most int) object { return object{"type": "string", "maxLength": most} }
	return object{
		"TenantID":       parameter(headerTenant, "header", "For the platform's own key: the tenant on whose behalf; else the key's own tenant or nothing", text(63), "acme"),
		"RequestID":      parameter("X-Request-ID", "header", "The client's name for the request: up to "+strconv.Itoa(maxRequestID)+" letters, digits, -_.:", text(maxRequestID), "checkout-4711"),
		"IdempotencyKey": parameter(headerIdempotency, "header", "Makes the request safe to repeat for 24 hours; another body under the same key is 422", text(maxIdemKey), "order-4711"),
		"Prefer":         parameter(headerPrefer, "header", "respond-async: answer 202 at once", object{"type": "string"}, respondAsync),
		"Mode":           parameter("mode", "query", "async: answer 202 at once", object{"type": "string"}, "async"),
		"LastEventID":    parameter("Last-Event-ID", "header", "Id of the last event that was seen: only those behind it are wanted", object{"type": "string"}, "4711.0"),
		"After":          parameter("after", "query", "As Last-Event-ID, for those who cannot send headers", object{"type": "string"}, "4711.0"),
	}
}
