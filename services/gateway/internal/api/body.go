package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Limits of the fields of an order.
const (
	maxBodyDepth  = 500
	maxTimeout    = 7 * 24 * time.Hour
	maxIterations = 10_000
	maxTags       = 20
	maxTagLength  = 100
	maxIdemKey    = 255
)

// rawBody is the body of a request as it came. It belongs to fiber: it is gone with the request.
func rawBody(c *fiber.Ctx, r *request) ([]byte, error) {
	if e := c.Get(fiber.HeaderContentEncoding); e != "" && !strings.EqualFold(e, "identity") {
		return nil, fiber.ErrUnsupportedMediaType
	}
	body := c.Request().Body()
	switch {
	case len(bytes.TrimSpace(body)) == 0:
		return nil, badShape(shapeDetail{Type: "missing", Loc: []any{"body"}, Msg: "Field required"})
	case !utf8.Valid(body):
		return nil, malformed(r, "the body is not valid UTF-8", 0)
	case deeperThan(body, maxBodyDepth):
		return nil, malformed(r, fmt.Sprintf("the body nests deeper than %d levels", maxBodyDepth), 0)
	}
	return body, nil
}

// deeperThan tells whether a document nests deeper than a limit, without decoding it.
func deeperThan(doc []byte, limit int) bool {
	depth, inText := 0, false
	for i := 0; i < len(doc); i++ {
		switch b := doc[i]; {
		case inText && b == '\\':
			i++
		case b == '"':
			inText = !inText
		case inText:
		case b == '{' || b == '[':
			if depth++; depth > limit {
				return true
			}
		case b == '}' || b == ']':
			depth--
		}
	}
	return false
}

// malformed is the answer to a body that is no JSON.
func malformed(r *request, what string, offset int64) *Problem {
	detail := shapeDetail{Type: "json_invalid", Loc: []any{"body", int(offset)}, Msg: "JSON decode error: " + what, Input: map[string]any{}}
	if r.frozen {
		return shapesProblem([]shapeDetail{detail})
	}
	p := newProblem(protocol.CodeMalformed, what)
	p.Errors = []FieldError{{Location: "body", Message: what}}
	return p
}

func badShape(details ...shapeDetail) *Problem { return shapesProblem(details) }

// decodeObject reads the top level of a body into the raw fields of a struct.
func decodeObject(r *request, body []byte, into any) error {
	err := json.Unmarshal(body, into)
	var (
		syntax *json.SyntaxError
		kind   *json.UnmarshalTypeError
	)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &syntax):
		return malformed(r, syntax.Error(), syntax.Offset)
	case errors.As(err, &kind):
		var input any
		_ = json.Unmarshal(body, &input) // it was found to be valid JSON
		return badShape(shapeDetail{
			Type: "model_attributes_type", Loc: []any{"body"},
			Msg: "Input should be a valid dictionary or object to extract fields from", Input: input,
		})
	}
	return malformed(r, "the body cannot be read", 0)
}

func isNull(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// orderBody is what an execution is started with. Its fields stay as they came: the spec and the
// state are passed on, not understood here.
type orderBody struct {
	Workflow       json.RawMessage `json:"workflow"`
	WorkflowID     json.RawMessage `json:"workflow_id"`
	InitialState   json.RawMessage `json:"initial_state"`
	TimeoutSeconds json.RawMessage `json:"timeout_seconds"`
	MaxIterations  json.RawMessage `json:"max_iterations"`
	Tags           json.RawMessage `json:"tags"`
}

// orderFields are the fields of an order, read.
type orderFields struct {
	workflow   json.RawMessage
	workflowID string
	input      json.RawMessage
	timeout    time.Duration
	iterations int
	tags       []string
}

// reading collects what is wrong with the fields of a body.
type reading struct {
	body    []byte
	details []shapeDetail
}

// missing says that a field is not there; its input is what it is missing from.
func (rd *reading) missing(field string) { rd.wrong("missing", field, "Field required", rd.body) }

func (rd *reading) wrong(kind, field, msg string, raw json.RawMessage) {
	var input any
	_ = json.Unmarshal(raw, &input) // part of a body that was found to be valid JSON
	rd.details = append(rd.details, shapeDetail{Type: kind, Loc: []any{"body", field}, Msg: msg, Input: input})
}

// fields reads an order. stored is the id of the workflow that the address names, if it does.
func (b *orderBody) fields(body []byte, stored string) (orderFields, error) {
	rd := reading{body: body}
	f := orderFields{workflowID: stored}
	switch {
	case stored != "":
		if !isNull(b.Workflow) || !isNull(b.WorkflowID) {
			rd.wrong("value_error", "workflow", "Value error, the address names the workflow already", nil)
		}
	case !isNull(b.Workflow) && !isNull(b.WorkflowID):
		rd.wrong("value_error", "workflow_id", "Value error, give either workflow or workflow_id, not both", b.WorkflowID)
	case !isNull(b.WorkflowID):
		if json.Unmarshal(b.WorkflowID, &f.workflowID) != nil || f.workflowID == "" {
			rd.wrong("string_type", "workflow_id", "Input should be a valid string", b.WorkflowID)
		}
	case isNull(b.Workflow):
		rd.missing("workflow")
	default:
		f.workflow = b.Workflow
	}
	if !isNull(b.InitialState) {
		if b.InitialState[0] != '{' {
			rd.wrong("dict_type", "initial_state", "Input should be a valid dictionary", b.InitialState)
		}
		f.input = b.InitialState
	}
	f.timeout = rd.seconds(b.TimeoutSeconds)
	f.iterations = rd.iterations(b.MaxIterations)
	f.tags = rd.tags(b.Tags)
	if len(rd.details) > 0 {
		return f, badShape(rd.details...)
	}
	return f, nil
}

func (rd *reading) seconds(raw json.RawMessage) time.Duration {
	if isNull(raw) {
		return 0
	}
	var seconds float64
	switch err := json.Unmarshal(raw, &seconds); {
	case err != nil:
		rd.wrong("float_type", "timeout_seconds", "Input should be a valid number", raw)
	case seconds <= 0:
		rd.wrong("greater_than", "timeout_seconds", "Input should be greater than 0", raw)
	case seconds > maxTimeout.Seconds():
		rd.wrong("less_than_equal", "timeout_seconds", fmt.Sprintf("Input should be less than or equal to %.0f", maxTimeout.Seconds()), raw)
	}
	return max(time.Millisecond, time.Duration(seconds*float64(time.Second)))
}

func (rd *reading) iterations(raw json.RawMessage) int {
	if isNull(raw) {
		return 0
	}
	var n float64
	switch err := json.Unmarshal(raw, &n); {
	case err != nil || n != math.Trunc(n):
		rd.wrong("int_type", "max_iterations", "Input should be a valid integer", raw)
	case n < 1:
		rd.wrong("greater_than_equal", "max_iterations", "Input should be greater than or equal to 1", raw)
	case n > maxIterations:
		rd.wrong("less_than_equal", "max_iterations", fmt.Sprintf("Input should be less than or equal to %d", maxIterations), raw)
	default:
		return int(n)
	}
	return 0
}

func (rd *reading) tags(raw json.RawMessage) []string {
	if isNull(raw) {
		return nil
	}
	var tags []string
	if json.Unmarshal(raw, &tags) != nil {
		rd.wrong("list_type", "tags", "Input should be a valid list of strings", raw)
		return nil
	}
	if len(tags) > maxTags {
		rd.wrong("too_long", "tags", fmt.Sprintf("List should have at most %d items", maxTags), raw)
	}
	for _, t := range tags {
		if t == "" || len(t) > maxTagLength {
			rd.wrong("value_error", "tags", fmt.Sprintf("Value error, a tag has 1 to %d bytes", maxTagLength), raw)
			break
		}
	}
	return tags
}
