package api

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway/internal/keys"
)

const (
	headerKey    = "X-API-Key"
	headerTenant = "X-Tenant-ID"
	maxKeyLength = 512 // hashing more than any key could be is work for nothing
)

// authorize finds out who asks, and whether they may. An empty scope asks for any valid key.
func (s *Server) authorize(c *fiber.Ctx, r *request, scope string) error {
	who, err := s.identify(c)
	r.who, r.tenant = who, who.Tenant
	if err != nil {
		return s.refuse(c.UserContext(), r, err)
	}
	if scope != "" && !who.May(scope) {
		return &protocol.Error{Code: protocol.CodeForbidden, Message: "this key does not have the scope " + scope}
	}
	return s.actFor(c, r)
}

// identify reads the key of a request.
func (s *Server) identify(c *fiber.Ctx) (keys.Identity, error) {
	key := presented(c)
	if key == "" {
		if s.opts.AuthRequired {
			return keys.Identity{}, errNoKey
		}
		if err := s.foreign(c); err != nil {
			return keys.Identity{}, err
		}
		return keys.Identity{Tenant: s.opts.DevTenant, Actor: "anonymous", Scopes: protocol.TenantScopes()}, nil
	}
	if len(key) > maxKeyLength {
		return keys.Identity{}, keys.ErrUnknown
	}
	return s.keys.Identify(key)
}

var errNoKey = errors.New("no key")

// presented is the key of a request: X-API-Key, or Authorization: Bearer.
func presented(c *fiber.Ctx) string {
	if key := c.Get(headerKey); key != "" {
		return key
	}
	scheme, token, ok := strings.Cut(c.Get(fiber.HeaderAuthorization), " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// refuse is the answer to a key that was not accepted. A key that once was good is noted in the
// audit of its tenant.
func (s *Server) refuse(ctx context.Context, r *request, err error) error {
	switch {
	case errors.Is(err, errNoKey):
		return &protocol.Error{Code: protocol.CodeUnauthenticated, Message: "send an API key as X-API-Key, or as Authorization: Bearer"}
	case errors.Is(err, keys.ErrUnknown):
		return &protocol.Error{Code: protocol.CodeUnauthenticated, Message: "the API key is not valid"}
	case errors.Is(err, keys.ErrRevoked), errors.Is(err, keys.ErrExpired):
		s.auditDenied(ctx, r, err)
		return &protocol.Error{Code: protocol.CodeUnauthenticated, Message: err.Error()}
	case errors.Is(err, keys.ErrSuspended):
		s.auditDenied(ctx, r, err)
		return &protocol.Error{Code: protocol.CodeForbidden, Message: err.Error()}
	}
	return err
}

// actFor lets an administrator name the tenant on whose behalf a request is made.
func (s *Server) actFor(c *fiber.Ctx, r *request) error {
	named := protocol.TenantID(c.Get(headerTenant))
	if named == "" {
		if r.tenant == "" && !s.opts.AuthRequired {
			r.tenant = s.opts.DevTenant
		}
		return nil
	}
	if named == r.tenant {
		return nil
	}
	if !r.who.Platform {
		return s.notOwn(c.UserContext(), r, "this key belongs to another tenant than the one named by "+headerTenant)
	}
	t, ok := s.keys.Tenant(named)
	if !ok {
		return &protocol.Error{Code: protocol.CodeNotFound, Field: "header." + headerTenant, Message: "there is no such tenant"}
	}
	r.tenant, r.who.Limits = t.ID, t.Limits
	return nil
}

// withTenant refuses requests that belong to no tenant: the platform's own key without X-Tenant-ID.
func withTenant(r *request) error {
	if r.tenant != "" {
		return nil
	}
	return &protocol.Error{
		Code: protocol.CodeInvalid, Field: "header." + headerTenant,
		Message: "the platform's own key belongs to no tenant: name one with the header " + headerTenant,
	}
}

// ownTenant refuses what concerns another tenant than the key's, whether there is one of that name or not:
// an admin of a tenant is told of no other. The platform's own key may name any.
func (s *Server) ownTenant(ctx context.Context, r *request, t protocol.TenantID) error {
	if r.who.Platform || t == r.tenant {
		return nil
	}
	return s.notOwn(ctx, r, "this key is for its own tenant; others take the platform's own key")
}

// notOwn is the refusal of what concerns another tenant. It is noted in the audit of the key's own.
func (s *Server) notOwn(ctx context.Context, r *request, message string) error {
	s.auditDenied(ctx, r, errors.New(message))
	return &protocol.Error{Code: protocol.CodeForbidden, Message: message}
}

// platformOnly refuses every key but the platform's own.
func platformOnly(r *request, what string) error {
	if r.who.Platform {
		return nil
	}
	return &protocol.Error{Code: protocol.CodeForbidden, Message: what + " takes the platform's own key"}
}

// auditEvery spaces the records of one key's refusals: a client that keeps trying must not fill
// the audit.
const auditEvery = time.Minute

// deniedAudit remembers whose refusal was written down lately.
type deniedAudit struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func newDeniedAudit() *deniedAudit { return &deniedAudit{last: map[string]time.Time{}} }

// due tells whether a refusal of a key is to be written down now.
func (d *deniedAudit) due(key string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if now.Sub(d.last[key]) < auditEvery {
		return false
	}
	const most = 10_000
	if len(d.last) >= most {
		clear(d.last)
	}
	d.last[key] = now
	return true
}
