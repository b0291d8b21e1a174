package api

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

const (
	headerIdempotency = "Idempotency-Key"
	headerReplayed    = "Idempotency-Replayed"
	headerPrefer      = "Prefer"
	headerApplied     = "Preference-Applied"
	respondAsync      = "respond-async"
)

// execute is the hot path: POST /workflows/execute, with the workflow in the body or its id.
func (s *Server) execute(c *fiber.Ctx) error { return s.order(c, "") }

// executeStored is POST /workflows/{id}/execute; its body may be empty.
func (s *Server) executeStored(c *fiber.Ctx) error { return s.order(c, strings.Clone(c.Params("id"))) }

func (s *Server) order(c *fiber.Ctx, stored string) error {
	r := of(c)
	var body []byte
	if stored == "" || len(c.Request().Body()) > 0 {
		var err error
		if body, err = rawBody(c, r); err != nil {
			return err
		}
	}
	var given orderBody
	if body != nil {
		if err := decodeObject(r, body, &given); err != nil {
			return err
		}
	}
	fields, err := given.fields(body, stored)
	if err != nil {
		return err
	}
	o := start.Order{
		Tenant: r.tenant, Actor: r.who.Actor, RequestID: r.id,
		WorkflowID: fields.workflowID, Spec: fields.workflow, Input: fields.input,
		Timeout: fields.timeout, MaxIterations: fields.iterations, Tags: fields.tags,
		Wait: !async(c),
	}
	if o.IdempotencyKey, err = idempotencyKey(c); err != nil {
		return err
	}
	if o.IdempotencyKey != "" {
		o.Fingerprint = fingerprint("execute", stored, string(body))
	}
	r.workflow = o.WorkflowID
	return s.begin(c, r, o)
}

// begin starts an order and answers with its outcome, or at once when nobody waits.
func (s *Server) begin(c *fiber.Ctx, r *request, o start.Order) error {
	run, err := s.start.Begin(c.UserContext(), o)
	if errors.Is(err, bus.ErrNotFound) && o.WorkflowID != "" {
		return s.whyNot(c, o, err)
	}
	if err != nil {
		return err
	}
	defer run.Release()
	r.execution = run.ID
	if run.Replayed {
		c.Set(headerReplayed, "true")
	}
	if !o.Wait {
		return accepted(c, run.ID)
	}
	end, err := s.start.Wait(c.UserContext(), run)
	if err != nil {
		if s.hurried() {
			return newProblem(codeDraining, "this gateway is about to end; the execution goes on: ask for it by its id")
		}
		return err
	}
	return s.outcome(c, r, run.ID, end)
}

// whyNot asks catalog why the tenant has no workflow of that id: there may be one of another
// tenant. Without catalog the answer is what the log says.
func (s *Server) whyNot(c *fiber.Ctx, o start.Order, err error) error {
	_, why := ask(c.UserContext(), s, protocol.GetWorkflow, protocol.GetWorkflowRequest{Tenant: o.Tenant, ID: o.WorkflowID})
	var refused *protocol.Error
	if errors.As(why, &refused) && refused.Code != protocol.CodeUnavailable {
		return refused
	}
	return err
}

// async tells whether the client does not want to wait.
func async(c *fiber.Ctx) bool {
	if c.Query("mode") == "async" {
		return true
	}
	prefer := c.Get(headerPrefer)
	if prefer == "" {
		return false
	}
	for wish := range strings.SplitSeq(prefer, ",") {
		if strings.EqualFold(strings.TrimSpace(wish), respondAsync) {
			c.Set(headerApplied, respondAsync)
			return true
		}
	}
	return false
}

// Accepted is the answer to a start that nobody waits for.
type Accepted struct {
	ExecutionID string `json:"execution_id"`
	Status      string `json:"status" enum:"PENDING"`
}

func accepted(c *fiber.Ctx, id protocol.ExecutionID) error {
	c.Set(fiber.HeaderLocation, "/executions/"+string(id))
	c.Status(fiber.StatusAccepted)
	return c.JSON(Accepted{string(id), "PENDING"})
}

// idempotencyKey reads the header of that name; "" when there is none.
func idempotencyKey(c *fiber.Ctx) (string, error) {
	key := c.Get(headerIdempotency)
	if len(key) > maxIdemKey {
		return "", &protocol.Error{
			Code: protocol.CodeInvalid, Field: "header." + headerIdempotency,
			Message: headerIdempotency + " must have at most " + strconv.Itoa(maxIdemKey) + " characters",
		}
	}
	return strings.Clone(key), nil
}

// fingerprint tells requests apart under one idempotency key.
func fingerprint(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		_, _ = h.Write([]byte(strconv.Itoa(len(p)) + ":" + p)) // a hash never fails
	}
	return hex.EncodeToString(h.Sum(nil))
}

// outcome answers with how an execution ended.
func (s *Server) outcome(c *fiber.Ctx, r *request, id protocol.ExecutionID, end protocol.Event) error {
	switch e := end.(type) {
	case protocol.Completed:
		return s.completed(c, r, id, e)
	case protocol.Failed:
		return failedProblem(e.Error)
	case protocol.TimedOut:
		p := newProblem(protocol.CodeTimedOut, timedOutText(e))
		p.execution = p.Detail
		p.Timeout = &TimeoutDetail{Scope: e.Scope, Node: e.Node, ElapsedMS: e.ElapsedMS}
		// The state as far as it came is a service to the client; without it the answer is still true.
		if state, err := s.history.Value(c.UserContext(), r.tenant, e.State); err == nil {
			p.PartialState = state
		}
		return p
	case protocol.Cancelled:
		p := newProblem(protocol.CodeCancelled, "the execution was cancelled")
		if e.Reason != "" {
			p.Detail += ": " + e.Reason
		}
		p.execution = p.Detail
		return p
	case protocol.Requested, protocol.Started, protocol.NodeCompleted, protocol.NodeFailed, protocol.NodeRateLimited,
		protocol.CancelRequested, protocol.Carried:
	}
	return newProblem(protocol.CodeInternal, "the execution ended in a way this gateway does not know")
}

func timedOutText(e protocol.TimedOut) string {
	if e.Scope == protocol.ScopeNode {
		return "node " + e.Node + " timed out after " + strconv.FormatInt(e.ElapsedMS, 10) + " ms"
	}
	return "the execution timed out after " + strconv.FormatInt(e.ElapsedMS, 10) + " ms"
}

// failedProblem is the problem of an execution that failed. Whatever the node said, to the client
// of a workflow it is a 500, except where waiting helps.
func failedProblem(f protocol.Failure) *Problem {
	var code protocol.Code
	switch f.Code {
	case protocol.CodeRateLimited, protocol.CodeTimedOut, protocol.CodeConditionFailed, protocol.CodeLoopLimit,
		protocol.CodeDeliveryExhausted, protocol.CodeSpecUnavailable, protocol.CodeStateTooLarge, protocol.CodeInternal:
		code = f.Code
	default:
		code = protocol.CodeNodeFailed // the code of a refused request is not about this request
	}
	p := newProblem(code, f.Error())
	p.execution, p.retryAfterMS = p.Detail, f.RetryAfterMS
	return p
}

// completed writes the answer by hand: the state goes through byte for byte, so that no number
// becomes another one.
func (s *Server) completed(c *fiber.Ctx, r *request, id protocol.ExecutionID, e protocol.Completed) error {
	state, err := s.history.Value(c.UserContext(), r.tenant, e.State)
	if err != nil {
		return err
	}
	cost := e.Totals.Cost
	if cost == "" || !json.Valid([]byte(cost)) {
		cost = "0"
	}
	b := make([]byte, 0, len(state)+256)
	b = append(b, `{"status":"success","final_state":`...)
	b = append(b, state...)
	b = append(b, `,"execution_time_ms":`...)
	b = strconv.AppendInt(b, e.Totals.DurationMS, 10)
	b = append(b, `,"tokens_used":`...)
	b = strconv.AppendInt(b, e.Totals.TokensUsed, 10)
	b = append(b, `,"cost":`...)
	b = append(b, cost...)
	b = append(b, `,"error":null,"execution_id":"`...)
	b = append(b, id...)
	b = append(b, `"}`...)
	c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
	c.Response().SetBodyRaw(b)
	return nil
}
