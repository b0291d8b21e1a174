package api

import (
	"context"
	"encoding/json"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway/internal/keys"
)

// KeyID names a key in an address.
type KeyID struct {
	ID string `path:"id" maxLength:"200" example:"key_01jd2v8m6hf5qrgq2s9n0w3x4y"`
}

// OfTenant names the tenant of a key where the address does not.
type OfTenant struct {
	TenantID string `query:"tenant_id" maxLength:"63" doc:"The tenant of the key; may be given as X-Tenant-ID instead"`
}

// NewKey is the body that makes a key.
type NewKey struct {
	TenantID  string                 `json:"tenant_id" minLength:"1" maxLength:"63" example:"acme"`
	Name      string                 `json:"name" minLength:"1" maxLength:"200"`
	Scopes    []string               `json:"scopes,omitempty" minItems:"1" enum:"workflows:read,workflows:write,workflows:execute,sources:read,sources:write,executions:read,executions:write,admin" doc:"Left out, everything within the tenant"`
	Limits    *protocol.TenantLimits `json:"limits,omitempty"`
	ExpiresAt *time.Time             `json:"expires_at,omitempty"`
}

// KeyChange is the body that changes a key. What is left out stays as it is.
type KeyChange struct {
	Name      *string                `json:"name,omitempty" minLength:"1" maxLength:"200"`
	Scopes    []string               `json:"scopes,omitempty" minItems:"1" enum:"workflows:read,workflows:write,workflows:execute,sources:read,sources:write,executions:read,executions:write,admin"`
	Limits    *protocol.TenantLimits `json:"limits,omitempty"`
	ExpiresAt Expiry                 `json:"expires_at,omitempty" required:"false" doc:"In the past, the key has expired; null, it never does"`
}

// Expiry is a moment, or null for never; it knows whether it was given at all.
type Expiry struct {
	given, never bool
	at           time.Time
}

// UnmarshalJSON reads what the schema has let through.
func (e *Expiry) UnmarshalJSON(b []byte) error {
	e.given, e.never = true, string(b) == "null"
	return json.Unmarshal(b, &e.at)
}

// Schema is that of a time that may be null.
func (Expiry) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeString, Format: "date-time", Nullable: true}
}

// end is the moment at which a key expires. The year 1, which many programs write where they have no time, is long past
// like any other; as no time at all it would mean never.
func end(at time.Time) protocol.Time {
	if t := protocol.At(at); !t.IsZero() {
		return t
	}
	return protocol.At(time.Unix(0, 0))
}

// KeyRotation is the body that gives a key a new secret.
type KeyRotation struct {
	OverlapSeconds int `json:"overlap_seconds,omitempty" minimum:"0" maximum:"604800" doc:"How long the old secret stays valid"`
}

// Key is a key as it is shown: never the secret, never its hash.
type Key struct {
	ID        string                 `json:"id"`
	TenantID  string                 `json:"tenant_id"`
	Name      string                 `json:"name"`
	Prefix    string                 `json:"prefix" doc:"The first characters, to tell keys apart"`
	Scopes    []string               `json:"scopes" nullable:"false"`
	Status    string                 `json:"status" enum:"active,revoked,expired"`
	Limits    *protocol.TenantLimits `json:"limits,omitempty"`
	ExpiresAt protocol.Time          `json:"expires_at"`
	CreatedAt protocol.Time          `json:"created_at"`
	RevokedAt protocol.Time          `json:"revoked_at"`
	Version   int                    `json:"version"`
}

// ShownKey is a key with its secret, which is shown this once.
type ShownKey struct {
	Key
	Secret string `json:"key" doc:"Keep it: it is shown this once"`
}

func showKey(k protocol.Key) Key {
	shown := Key{
		ID: k.ID, TenantID: string(k.Tenant), Name: k.Name, Prefix: k.Prefix, Scopes: k.Scopes, Status: k.Status, Limits: k.Limits,
		ExpiresAt: k.ExpiresAt, CreatedAt: k.CreatedAt, RevokedAt: k.RevokedAt, Version: k.Version,
	}
	if shown.Status == protocol.StatusActive && !k.ExpiresAt.IsZero() && !time.Now().Before(k.ExpiresAt.Time) {
		shown.Status = protocol.StatusExpired
	}
	if shown.Scopes == nil {
		shown.Scopes = []string{}
	}
	return shown
}

func keyAnswer(k protocol.Key, err error) (*Versioned[Key], error) {
	if err != nil {
		return nil, err
	}
	return &Versioned[Key]{ETag: etag(k.Version), Body: showKey(k)}, nil
}

func (s *Server) keyRoutes() {
	admin := func(op operation) operation {
		op.tag, op.scope, op.tenantless = tagTenants, protocol.ScopeAdmin, true
		return op
	}
	register(s, admin(operation{
		id: "create-key", method: http.MethodPost, path: "/keys", summary: "Create an API key",
		description: "The key is in the answer this once; the platform keeps its hash alone.",
		status:      http.StatusCreated, errors: []int{http.StatusNotFound, http.StatusConflict},
	}), s.createKey)
	register(s, admin(operation{
		id: "list-keys", method: http.MethodGet, path: "/keys", summary: "List the API keys of a tenant",
		errors: []int{http.StatusUnprocessableEntity},
	}), s.listKeys)
	register(s, admin(operation{
		id: "get-key", method: http.MethodGet, path: "/keys/{id}", summary: "Get an API key", errors: []int{http.StatusNotFound},
	}), func(ctx context.Context, r *request, in *struct {
		KeyID
		OfTenant
	},
	) (*Versioned[Key], error) {
		t, err := s.keyTenant(ctx, r, in.TenantID)
		if err != nil {
			return nil, err
		}
		return keyAnswer(ask(ctx, s, protocol.GetKey, protocol.GetKeyRequest{Tenant: t, ID: in.ID}))
	})
	register(s, admin(operation{
		id: "update-key", method: http.MethodPut, path: "/keys/{id}", summary: "Change an API key",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}), s.updateKey)
	register(s, admin(operation{
		id: "rotate-key", method: http.MethodPost, path: "/keys/{id}/rotate", summary: "Give an API key a new secret",
		description: "The old one stays valid for overlap_seconds.", errors: []int{http.StatusNotFound, http.StatusConflict},
	}), s.rotateKey)
	register(s, admin(operation{
		id: "revoke-key", method: http.MethodDelete, path: "/keys/{id}", summary: "Revoke an API key",
		description: "Every gateway refuses it within a second.", errors: []int{http.StatusNotFound},
	}), func(ctx context.Context, r *request, in *struct {
		KeyID
		OfTenant
	},
	) (*Output[Key], error) {
		t, err := s.keyTenant(ctx, r, in.TenantID)
		if err != nil {
			return nil, err
		}
		k, err := command[protocol.Key](ctx, s, r, t, protocol.VerbKeyRevoke, protocol.RevokeKey{ID: in.ID})
		return output(showKey(k), err)
	})
}

// keyTenant is the tenant whose key is meant. It becomes part of a subject, so it is checked.
func (s *Server) keyTenant(ctx context.Context, r *request, named string) (protocol.TenantID, error) {
	t := protocol.TenantID(named)
	if t == "" {
		t = r.tenant
	}
	if t == "" {
		return "", &protocol.Error{Code: protocol.CodeInvalid, Field: "query.tenant_id", Message: "name the tenant by tenant_id or " + headerTenant}
	}
	if err := s.ownTenant(ctx, r, t); err != nil {
		return "", err
	}
	return t, t.Check()
}

func (s *Server) createKey(ctx context.Context, r *request, in *struct{ Body NewKey }) (*Output[ShownKey], error) {
	b := in.Body
	t, err := s.keyTenant(ctx, r, b.TenantID)
	if err != nil {
		return nil, err
	}
	data := protocol.CreateKey{Name: b.Name, Scopes: b.Scopes, Limits: b.Limits}
	if b.ExpiresAt != nil {
		data.ExpiresAt = end(*b.ExpiresAt)
	}
	secret := keys.NewSecret()
	data.Hash, data.Prefix = secret.Hash, secret.Prefix
	k, err := command[protocol.Key](ctx, s, r, t, protocol.VerbKeyCreate, data)
	return shownKey(k, secret, err)
}

// shownKey is the one answer that holds a secret. A repeated request gets the key that the first
// one made, whose secret nobody has any more.
func shownKey(k protocol.Key, secret keys.Secret, err error) (*Output[ShownKey], error) {
	if err != nil {
		return nil, err
	}
	if k.Prefix != secret.Prefix {
		return nil, &protocol.Error{
			Code:    protocol.CodeConflict,
			Message: "this request was carried out before, as key " + k.ID + ", and its secret is shown only once: rotate the key to get a new one",
		}
	}
	return &Output[ShownKey]{Body: ShownKey{Key: showKey(k), Secret: secret.Key}}, nil
}

func (s *Server) listKeys(ctx context.Context, r *request, in *struct {
	OfTenant
	PageParams
	Status string `query:"status" enum:"active,revoked,expired"`
},
) (*PageOutput[Key], error) {
	t, err := s.keyTenant(ctx, r, in.TenantID)
	if err != nil {
		return nil, err
	}
	list, err := ask(ctx, s, protocol.ListKeys, protocol.ListKeysRequest{Tenant: t, Page: in.page(), Status: in.Status})
	if err != nil {
		return nil, err
	}
	return pageOf(list, showKey), nil
}

func (s *Server) updateKey(ctx context.Context, r *request, in *struct {
	KeyID
	OfTenant
	IfMatch
	Body KeyChange
},
) (*Versioned[Key], error) {
	t, err := s.keyTenant(ctx, r, in.TenantID)
	if err != nil {
		return nil, err
	}
	data := protocol.UpdateKey{ID: in.ID, Name: in.Body.Name, Scopes: in.Body.Scopes, Limits: in.Body.Limits, IfMatch: in.version}
	switch e := in.Body.ExpiresAt; {
	case e.never:
		data.NeverExpires = true
	case e.given:
		at := end(e.at)
		data.ExpiresAt = &at
	}
	return keyAnswer(command[protocol.Key](ctx, s, r, t, protocol.VerbKeyUpdate, data))
}

func (s *Server) rotateKey(ctx context.Context, r *request, in *struct {
	KeyID
	OfTenant
	Body *KeyRotation
},
) (*Output[ShownKey], error) {
	t, err := s.keyTenant(ctx, r, in.TenantID)
	if err != nil {
		return nil, err
	}
	secret := keys.NewSecret()
	data := protocol.RotateKey{ID: in.ID, Hash: secret.Hash, Prefix: secret.Prefix}
	if in.Body != nil {
		data.OverlapSeconds = in.Body.OverlapSeconds
	}
	k, err := command[protocol.Key](ctx, s, r, t, protocol.VerbKeyRotate, data)
	return shownKey(k, secret, err)
}
