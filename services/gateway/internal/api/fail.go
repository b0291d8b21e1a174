package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/gateway/internal/keys"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// fail answers a request with an error.
func (s *Server) fail(c *fiber.Ctx, r *request, err error) {
	p := s.problem(c.UserContext(), r, err)
	body, merr := encode(p)
	if merr != nil {
		s.rt.Log.Error("problem not encoded", zap.Error(merr))
		c.Status(fiber.StatusInternalServerError)
		return
	}
	s.failureHeaders(c, p)
	c.Status(p.Status)
	c.Set(fiber.HeaderContentType, p.ContentType(""))
	c.Response().SetBodyRaw(body)
}

// encode writes JSON as it is meant to be read: characters that matter only inside HTML stay.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// failureHeaders adds what belongs to a status beside the body.
func (s *Server) failureHeaders(c *fiber.Ctx, p *Problem) {
	switch p.Status {
	case fiber.StatusUnauthorized:
		c.Set(fiber.HeaderWWWAuthenticate, `Bearer realm="agentflow"`)
	case fiber.StatusServiceUnavailable, fiber.StatusTooManyRequests:
		wait := max(p.retryAfterMS, 1000)
		c.Set(fiber.HeaderRetryAfter, strconv.FormatInt(int64(math.Ceil(float64(wait)/1000)), 10))
	}
}

// problem turns any error into what the client may see of it. What it does not know is our fault:
// it is logged and reported in full, and answered without a word of it.
func (s *Server) problem(ctx context.Context, r *request, err error) *Problem {
	p := s.known(err)
	if p == nil {
		p = newProblem(protocol.CodeInternal, "something went wrong on our side; it has been recorded under the request id")
		var panicked *daemon.PanicError
		if !errors.As(err, &panicked) { // a panic was logged and reported where it was caught
			ctx = r.context(ctx)
			s.rt.Logger(ctx).Error("request failed", zap.Error(err))
		}
	}
	p.frozen, p.RequestID = r.frozen, r.id
	if p.ExecutionID == "" {
		p.ExecutionID = string(r.execution)
	}
	r.problem = p
	return p
}

// known is the problem that an error stands for, or nil.
func (s *Server) known(err error) *Problem {
	var (
		problem   *Problem
		refused   *protocol.Error
		shape     *workflow.ShapeError
		invalid   *start.InvalidError
		uncertain *start.UncertainError
		http      *fiber.Error
	)
	switch {
	case errors.As(err, &problem):
		return problem
	case errors.As(err, &shape):
		return shapeProblem(shape, "workflow")
	case errors.As(err, &invalid):
		return reportProblem(invalid.Report.Errors)
	case errors.As(err, &refused):
		return refusal(refused)
	case errors.As(err, &http):
		return httpProblem(http)
	case errors.As(err, &uncertain):
		p := newProblem(protocol.CodeUnavailable, "the execution log did not answer: whether the execution was accepted is not known; look it up by its id, or repeat with an Idempotency-Key")
		p.ExecutionID = string(uncertain.ID)
		return p
	case errors.Is(err, bus.ErrLogFull):
		p := newProblem(protocol.CodeLogFull, "the execution log takes nothing new until older executions are archived; try again")
		p.retryAfterMS = 5000
		return p
	case errors.Is(err, start.ErrNoOutcome):
		return newProblem(protocol.CodeTimedOut, "the execution has no outcome yet; it is not lost: ask for it by its id")
	case errors.Is(err, bus.ErrNotFound):
		return newProblem(protocol.CodeNotFound, "there is no such thing, or no longer")
	case errors.Is(err, keys.ErrNotReady):
		return newProblem(protocol.CodeUnavailable, "the gateway is starting; try again")
	case errors.Is(err, bus.ErrUnavailable), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return newProblem(protocol.CodeUnavailable, "a part of the platform does not answer; try again")
	}
	return nil
}

// refusal is the problem of an error that another service, or this one, gave a code.
func refusal(e *protocol.Error) *Problem {
	if e.Code == protocol.CodeInternal {
		return nil
	}
	p := newProblem(e.Code, e.Message)
	p.retryAfterMS = e.RetryAfterMS
	switch details := e.Details.(type) {
	case nil:
		if e.Field != "" {
			p.Errors = []FieldError{{Location: e.Field, Message: e.Message}}
		}
	default:
		detailed(p, details)
	}
	if e.Code == protocol.CodeVersionMismatch {
		p.Errors = []FieldError{{Location: "header.If-Match", Message: e.Message}} // nothing else asks for a version
	}
	if e.Code == protocol.CodeInvalid || e.Code == protocol.CodeConflict || e.Code == protocol.CodeTooLarge {
		for i := range p.Errors {
			p.Errors[i].Location = rooted(p.Errors[i].Location)
		}
	}
	if e.Code == protocol.CodeInvalid {
		for _, wrong := range p.Errors {
			p.shape = append(p.shape, shapeDetail{Type: "value_error", Loc: steps(wrong.Location), Msg: wrong.Message})
		}
	}
	return p
}

// rooted says where a field is. Other services name fields of what they were given, which is the
// body.
func rooted(field string) string {
	for _, root := range []string{"body", "query", "path", "header"} {
		if rest, ok := strings.CutPrefix(field, root); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return field
		}
	}
	if field == "" {
		return "body"
	}
	return "body." + field
}

// detailed fills in what another service listed: a report of validation, as JSON.
func detailed(p *Problem, details any) {
	raw, err := json.Marshal(details)
	if err != nil {
		return
	}
	var list []workflow.Problem
	if json.Unmarshal(raw, &list) != nil {
		var report workflow.Report
		if json.Unmarshal(raw, &report) != nil {
			return
		}
		list = report.Errors
	}
	if p.Code == string(protocol.CodeWorkflowInvalid) {
		p.report = list
	}
	p.Errors = fieldErrors(list)
}

func reportProblem(list []workflow.Problem) *Problem {
	detail := "the workflow has validation errors"
	if len(list) > 0 {
		detail = list[0].Error()
		if len(list) > 1 {
			detail += " (and " + strconv.Itoa(len(list)-1) + " more)"
		}
	}
	p := newProblem(protocol.CodeWorkflowInvalid, detail)
	p.report, p.Errors = list, fieldErrors(list)
	return p
}

func fieldErrors(list []workflow.Problem) []FieldError {
	out := make([]FieldError, len(list))
	for i, w := range list {
		out[i] = FieldError{Location: w.Field, Message: w.Message, Type: w.Type, Code: w.Code, NodeID: w.NodeID}
	}
	return out
}

// shapeProblem lists what is wrong with the shape of a spec that stands under a key of the body;
// "" when it is the body.
func shapeProblem(e *workflow.ShapeError, under string) *Problem {
	details := make([]shapeDetail, len(e.Details))
	for i, d := range e.Details {
		loc := make([]any, 0, len(d.Loc)+2)
		loc = append(loc, "body")
		if under != "" {
			loc = append(loc, under)
		}
		details[i] = shapeDetail{Type: d.Type, Loc: append(loc, d.Loc...), Msg: d.Msg, Input: d.Input}
	}
	return shapesProblem(details)
}

func shapesProblem(details []shapeDetail) *Problem {
	p := newProblem(protocol.CodeInvalid, "the body does not have the shape it must have")
	p.shape = details
	p.Errors = make([]FieldError, len(details))
	for i, d := range details {
		p.Errors[i] = FieldError{Location: location(d.Loc), Message: d.Msg, Type: d.Type}
	}
	if len(p.Errors) > 0 {
		p.Detail = p.Errors[0].Location + ": " + p.Errors[0].Message
		if n := len(p.Errors) - 1; n > 0 {
			p.Detail += " (and " + strconv.Itoa(n) + " more)"
		}
	}
	return p
}

// location writes a path as body.nodes[0].id.
func location(loc []any) string {
	var b strings.Builder
	for _, step := range loc {
		switch step := step.(type) {
		case string:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(step)
		case int:
			b.WriteString("[" + strconv.Itoa(step) + "]")
		}
	}
	return b.String()
}

// httpProblem is the problem of what fiber refused by itself.
func httpProblem(e *fiber.Error) *Problem {
	switch e.Code {
	case fiber.StatusNotFound:
		return newProblem(codeNoRoute, "nothing is served at this address; /docs lists what is")
	case fiber.StatusMethodNotAllowed:
		return newProblem(codeMethod, "the address exists, but not for this method; the Allow header lists those it takes")
	case fiber.StatusRequestEntityTooLarge:
		return newProblem(protocol.CodeTooLarge, "the body is larger than this gateway takes")
	case fiber.StatusRequestHeaderFieldsTooLarge:
		return newProblem(codeHeaderTooLarge, "the request line and headers are larger than this gateway takes")
	case fiber.StatusRequestTimeout:
		return newProblem(codeSlowRequest, "the request did not arrive in time")
	case fiber.StatusUnsupportedMediaType:
		return newProblem(codeMediaType, "send JSON, without a Content-Encoding")
	case fiber.StatusBadRequest, fiber.StatusBadGateway:
		return newProblem(codeBadRequest, "the request is not HTTP as this gateway understands it")
	}
	return nil
}
