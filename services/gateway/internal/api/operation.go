package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// operation is one documented endpoint.
type operation struct {
	id          string
	method      string
	path        string
	slashes     bool // its one parameter may hold slashes
	tag         string
	summary     string
	description string
	scope       string // "" asks for any valid key
	tenantless  bool   // makes sense without a tenant: for administrators
	status      int    // of success; 0 means 200
	errors      []int  // beside those that every operation has
}

// Tags of the document.
const (
	tagWorkflows  = "Workflows"
	tagSources    = "Sources"
	tagExecutions = "Executions"
	tagQueues     = "Queues"
	tagTenants    = "Tenants"
	tagHealth     = "Health"
	tagFrozen     = "Phase 1"
)

// register adds an endpoint whose input huma reads and checks, and whose output it writes.
func register[I, O any](s *Server, op operation, handle func(ctx context.Context, r *request, in *I) (*O, error)) {
	huma.Register(s.api, s.document(op), func(ctx context.Context, in *I) (*O, error) {
		r := requestOf(ctx)
		out, err := handle(ctx, r, in)
		if err != nil {
			return nil, s.problem(ctx, r, err)
		}
		return out, nil
	})
}

// both registers an endpoint at the root and under /api/v1.
func both[I, O any](s *Server, op operation, handle func(ctx context.Context, r *request, in *I) (*O, error)) {
	register(s, op, handle)
	op.id += "-v1"
	op.path = frozenPrefix + op.path
	register(s, op, handle)
}

func (s *Server) document(op operation) huma.Operation {
	errs := append([]int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusServiceUnavailable,
	}, op.errors...)
	if op.method != http.MethodGet {
		errs = append(errs, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity)
	}
	status := op.status
	if status == 0 {
		status = http.StatusOK
	}
	return huma.Operation{
		OperationID: op.id, Method: op.method, Path: op.path, Tags: []string{op.tag}, Summary: op.summary, Description: op.description,
		DefaultStatus: status, Errors: errs, Security: []map[string][]string{{"apiKey": {}}, {"bearer": {}}},
		MaxBodyBytes:    -1, // the server has refused what is too large
		BodyReadTimeout: -1, // and has read all of it
		Middlewares:     huma.Middlewares{s.entrance(op)},
	}
}

// entrance lets a request to an operation in, or answers it.
func (s *Server) entrance(op operation) func(huma.Context, func(huma.Context)) {
	return func(ctx huma.Context, next func(huma.Context)) {
		c := humafiber.Unwrap(ctx)
		r := of(c)
		if err := s.admit(c, r, op.scope, op.tenantless); err != nil {
			s.fail(c, r, err)
			return
		}
		if err := s.checkBody(c, r); err != nil {
			s.fail(c, r, err)
			return
		}
		next(jsonContext{huma.WithContext(ctx, r.context(ctx.Context()))})
		if r.problem != nil {
			s.failureHeaders(c, r.problem)
		} else if r.replayed {
			c.Set(headerReplayed, "true")
		}
	}
}

// admit is what every request but the open ones must pass: the key, the scope and the limits.
func (s *Server) admit(c *fiber.Ctx, r *request, scope string, tenantless bool) error {
	if err := s.authorize(c, r, scope); err != nil {
		return err
	}
	if !tenantless {
		if err := withTenant(r); err != nil {
			return err
		}
	}
	return s.limit(c, r)
}

// checkBody refuses what huma's decoder would take or mend in silence, and reads the headers that
// make a write safe to repeat.
func (s *Server) checkBody(c *fiber.Ctx, r *request) error {
	if len(c.Request().Body()) > 0 {
		if _, err := rawBody(c, r); err != nil {
			return err
		}
	}
	key, err := idempotencyKey(c)
	if err != nil || key == "" || c.Method() != fiber.MethodPost {
		return err
	}
	r.idempotency = key
	r.fingerprint = fingerprint(c.Method(), c.Path(), string(c.Request().Body()))
	return nil
}

// humaContext is huma.Context under a name that can be embedded beside its method Context.
type humaContext = huma.Context

// jsonContext takes every body for JSON: clients of Phase 1 often name another type, or none.
type jsonContext struct{ humaContext }

func (c jsonContext) Header(name string) string {
	if strings.EqualFold(name, fiber.HeaderContentType) || strings.EqualFold(name, fiber.HeaderAccept) {
		return ""
	}
	return c.humaContext.Header(name)
}

// Unwrap lets the adapter find its own context.
func (c jsonContext) Unwrap() huma.Context { return c.humaContext }

// humaErrors makes huma's own errors our problems. Its hooks are global to the process.
var humaErrors = sync.OnceFunc(func() {
	huma.NewError = func(status int, msg string, errs ...error) huma.StatusError {
		return inputProblem(&request{}, status, msg, errs)
	}
	huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
		return inputProblem(requestOf(ctx.Context()), status, msg, errs)
	}
})

// inputProblem is the problem of an input that huma did not take.
func inputProblem(r *request, status int, msg string, errs []error) *Problem {
	code := protocol.CodeInvalid
	switch status {
	case http.StatusBadRequest:
		code = protocol.CodeMalformed
	case http.StatusRequestEntityTooLarge:
		code = protocol.CodeTooLarge
	case http.StatusUnsupportedMediaType:
		code = codeMediaType
	case http.StatusUnprocessableEntity:
	default:
		code = protocol.CodeInternal
		msg = "something went wrong on our side"
		errs = nil
	}
	p := newProblem(code, msg)
	p.frozen, p.RequestID = r.frozen, r.id
	for _, err := range errs {
		detail := &huma.ErrorDetail{Message: "invalid"}
		if !errors.As(err, &detail) {
			detail.Message = err.Error()
		}
		detail = unfit(detail)
		p.Errors = append(p.Errors, FieldError{Location: detail.Location, Message: detail.Message})
		p.shape = append(p.shape, shapeDetail{Type: "value_error", Loc: steps(detail.Location), Msg: detail.Message, Input: echo(detail.Value)})
	}
	if len(p.Errors) > 0 {
		p.Detail = strings.TrimPrefix(p.Errors[0].Location+": "+p.Errors[0].Message, ": ")
		if n := len(p.Errors) - 1; n > 0 {
			p.Detail += " (and " + strconv.Itoa(n) + " more)"
		}
	}
	r.problem = p
	return p
}

// notFitting is what Go says of a JSON value that its type cannot hold, such as an integer written as 1e3 or one that
// is too large: the schema has let it pass.
var notFitting = regexp.MustCompile(`^json: cannot unmarshal (.+) into Go struct field \w+\.(\S+) of type \S+$`)

// unfit says the same in words for those who sent it, and where.
func unfit(d *huma.ErrorDetail) *huma.ErrorDetail {
	said := notFitting.FindStringSubmatch(d.Message)
	if said == nil {
		return d
	}
	return &huma.ErrorDetail{Location: d.Location + "." + said[2], Message: said[1] + " is no value for this field"}
}

// echo is a value as the client sent it, if it is small.
func echo(v any) any {
	const most = 1 << 10
	if b, err := json.Marshal(v); err != nil || len(b) > most {
		return nil
	}
	return v
}

// steps reads body.nodes[0].id as a path.
func steps(location string) []any {
	var out []any
	for part := range strings.SplitSeq(location, ".") {
		name, rest, _ := strings.Cut(part, "[")
		if name != "" {
			out = append(out, name)
		}
		for rest != "" {
			index, more, _ := strings.Cut(rest, "]")
			if n, err := strconv.Atoi(index); err == nil {
				out = append(out, n)
			} else {
				out = append(out, index)
			}
			rest = strings.TrimPrefix(more, "[")
		}
	}
	return out
}
