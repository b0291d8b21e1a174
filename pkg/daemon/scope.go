package daemon

import (
	"cmp"
	"context"
	"sync"

	"github.com/getsentry/sentry-go"
	"go.uber.org/zap"
)

// Scope says on whose behalf work is done. It names log lines and error reports; it is never a metric label.
type Scope struct {
	RequestID string
	Tenant    string
	Workflow  string
	Execution string
}

type scopeKey struct{}

// scoped is what travels in a context.
type scoped struct {
	scope Scope
	trail *trail
}

// WithScope attaches s to ctx; fields that s leaves empty keep what ctx has. The first scope of a context also
// begins a trail of breadcrumbs, which the contexts derived from it share.
func WithScope(ctx context.Context, s Scope) context.Context {
	outer, ok := ctx.Value(scopeKey{}).(scoped)
	if !ok {
		outer.trail = &trail{}
	}
	outer.scope = Scope{
		RequestID: cmp.Or(s.RequestID, outer.scope.RequestID),
		Tenant:    cmp.Or(s.Tenant, outer.scope.Tenant),
		Workflow:  cmp.Or(s.Workflow, outer.scope.Workflow),
		Execution: cmp.Or(s.Execution, outer.scope.Execution),
	}
	return context.WithValue(ctx, scopeKey{}, outer)
}

// ScopeOf is what WithScope attached to ctx; zero when nothing was.
func ScopeOf(ctx context.Context) Scope {
	s, _ := ctx.Value(scopeKey{}).(scoped)
	return s.scope
}

func trailOf(ctx context.Context) *trail {
	s, _ := ctx.Value(scopeKey{}).(scoped)
	return s.trail
}

// Fields are the scope as log fields, without the empty ones.
func (s Scope) Fields() []zap.Field {
	fields := make([]zap.Field, 0, 4)
	s.each(func(name, value string) { fields = append(fields, zap.String(name, value)) })
	return fields
}

func (s Scope) each(do func(name, value string)) {
	for _, field := range [...]struct{ name, value string }{
		{"request_id", s.RequestID},
		{"tenant", s.Tenant},
		{"workflow_id", s.Workflow},
		{"execution_id", s.Execution},
	} {
		if field.value != "" {
			do(field.name, field.value)
		}
	}
}

// longestTrail is how many breadcrumbs are kept for a report; the oldest go first.
const longestTrail = 50

// trail is what happened on the way to an error, in order. Parallel branches of an execution write to it at once.
type trail struct {
	mu     sync.Mutex
	crumbs []*sentry.Breadcrumb
	next   int // where the oldest crumb is, once the trail is full
}

func (t *trail) add(crumb *sentry.Breadcrumb) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.crumbs) < longestTrail {
		t.crumbs = append(t.crumbs, crumb)
		return
	}
	t.crumbs[t.next] = crumb
	t.next = (t.next + 1) % longestTrail
}

// all lists the crumbs, oldest first.
func (t *trail) all() []*sentry.Breadcrumb {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	crumbs := make([]*sentry.Breadcrumb, 0, len(t.crumbs))
	crumbs = append(crumbs, t.crumbs[t.next:]...)
	return append(crumbs, t.crumbs[:t.next]...)
}
