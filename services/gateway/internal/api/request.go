package api

import (
	"context"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/gateway/internal/keys"
)

// request is what the gateway knows of one HTTP request. One goroutine has it at a time.
type request struct {
	id        string
	started   time.Time
	frozen    bool // under /api/v1: errors in the shapes of Phase 1
	who       keys.Identity
	tenant    protocol.TenantID // on whose behalf; an administrator's may differ from who.Tenant
	execution protocol.ExecutionID
	workflow  string
	span      trace.Span
	problem   *Problem // what was answered, if it was one

	idempotency string // the Idempotency-Key of a write
	fingerprint string // and what tells the write from another one under the same key
	replayed    bool   // it was made before under its key
}

type requestKey struct{}

// requestOf finds the request of a context made by observe.
func requestOf(ctx context.Context) *request {
	r, _ := ctx.Value(requestKey{}).(*request)
	if r == nil {
		return &request{started: time.Now()} // an answer outside of a request: a connection that failed early
	}
	return r
}

// of is requestOf for a fiber context.
func of(c *fiber.Ctx) *request { return requestOf(c.UserContext()) }

// context adds to a context on whose behalf the request is made, for logs and reports.
func (r *request) context(ctx context.Context) context.Context {
	return daemon.WithScope(ctx, daemon.Scope{Tenant: string(r.tenant), Workflow: r.workflow, Execution: string(r.execution)})
}

const frozenPrefix = "/api/v1"

func isFrozen(path string) bool {
	rest, ok := strings.CutPrefix(path, frozenPrefix)
	return ok && (rest == "" || rest[0] == '/')
}

// maxRequestID bounds what a client may call its request.
const maxRequestID = 128

// requestID is the client's own name for the request if it is a decent one, else a new one.
func requestID(given string) string {
	if given == "" || len(given) > maxRequestID {
		return typeid.New("req")
	}
	for i := range len(given) {
		switch c := given[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.', c == ':':
		default:
			return typeid.New("req")
		}
	}
	return strings.Clone(given) // fiber uses its buffer again
}
