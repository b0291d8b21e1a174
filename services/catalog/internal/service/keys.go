package service

import (
	"context"
	"encoding/hex"
	"slices"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// maxOverlap bounds how long a rotated key may go on working.
const maxOverlap = 7 * 24 * time.Hour

func createKey(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.CreateKey](r.cmd)
	if err != nil {
		return nil, err
	}
	if r.tenant == "" {
		return nil, refuse(protocol.CodeNotFound, "tenant_id", "there is no tenant "+quote(string(r.cmd.Tenant)))
	}
	if r.last.Type != "" {
		return nil, refuse(protocol.CodeConflict, "id", "the key exists already")
	}
	if len(in.Scopes) == 0 {
		in.Scopes = protocol.TenantScopes()
	}
	slices.Sort(in.Scopes)
	in.Scopes = slices.Compact(in.Scopes)
	if err := firstError(checkName(in.Name), checkHash(in.Hash), checkPrefix(in.Prefix), checkScopes(in.Scopes), checkLimits(in.Limits),
		checkExpiry(in.ExpiresAt, r.at)); err != nil {
		return nil, err
	}
	if err := s.freshHash(ctx, r, in.Hash); err != nil {
		return nil, err
	}
	return &decision{"key_created.v1", protocol.Key{
		ID: r.id, Tenant: r.cmd.Tenant, Name: in.Name, Hash: in.Hash, Prefix: in.Prefix, Scopes: in.Scopes, Status: protocol.StatusActive,
		Limits: in.Limits, ExpiresAt: in.ExpiresAt, CreatedAt: r.at, Version: 1,
	}}, nil
}

// freshHash refuses a hash that belongs to a key already: the same secret must not stand for two.
func (s *Service) freshHash(ctx context.Context, r *room, hash string) error {
	taken, err := s.store.Exists(ctx, r.cmd.Tenant, "key_hash", hash)
	if err != nil {
		return err
	}
	if taken {
		return refuse(protocol.CodeConflict, "hash", "the key is in use already")
	}
	return nil
}

func updateKey(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.UpdateKey](r.cmd)
	if err != nil {
		return nil, err
	}
	k, err := document[protocol.Key](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if k.Status == protocol.StatusRevoked {
		return nil, refuse(protocol.CodeConflict, "", "the key is revoked")
	}
	if err := checkVersion(in.IfMatch, k.Version); err != nil {
		return nil, err
	}
	if in.Name != nil {
		k.Name = *in.Name
	}
	if in.Scopes != nil {
		slices.Sort(in.Scopes)
		k.Scopes = slices.Compact(in.Scopes)
	}
	if in.Limits != nil {
		k.Limits = in.Limits
	}
	switch {
	case in.NeverExpires && in.ExpiresAt != nil:
		return nil, refuse(protocol.CodeInvalid, "expires_at", "a key that never expires has no expires_at")
	case in.NeverExpires:
		k.ExpiresAt = protocol.Time{}
	case in.ExpiresAt != nil:
		k.ExpiresAt = *in.ExpiresAt // in the past too: that ends the key now
	}
	if err := firstError(checkName(k.Name), checkScopes(k.Scopes), checkLimits(k.Limits)); err != nil {
		return nil, err
	}
	k.Version++
	return &decision{"key_updated.v1", k}, nil
}

func rotateKey(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.RotateKey](r.cmd)
	if err != nil {
		return nil, err
	}
	k, err := document[protocol.Key](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if k.Status == protocol.StatusRevoked {
		return nil, refuse(protocol.CodeConflict, "", "the key is revoked")
	}
	overlap := time.Duration(in.OverlapSeconds) * time.Second
	if in.OverlapSeconds < 0 || overlap > maxOverlap {
		return nil, refuse(protocol.CodeInvalid, "overlap_seconds", "overlap_seconds must be between 0 and 604800")
	}
	if err := firstError(checkHash(in.Hash), checkPrefix(in.Prefix)); err != nil {
		return nil, err
	}
	if err := s.freshHash(ctx, r, in.Hash); err != nil {
		return nil, err
	}
	k.PreviousHash, k.PreviousExpiresAt = "", protocol.Time{}
	if overlap > 0 {
		k.PreviousHash, k.PreviousExpiresAt = k.Hash, protocol.At(r.at.Add(overlap))
	}
	k.Hash, k.Prefix = in.Hash, in.Prefix
	k.Version++
	return &decision{"key_rotated.v1", k}, nil
}

func revokeKey(ctx context.Context, s *Service, r *room) (*decision, error) {
	k, err := document[protocol.Key](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if k.Status == protocol.StatusRevoked {
		return nil, nil //nolint:nilnil // it is what was asked for
	}
	k.Status, k.RevokedAt = protocol.StatusRevoked, r.at
	k.PreviousHash, k.PreviousExpiresAt = "", protocol.Time{}
	k.Version++
	return &decision{"key_revoked.v1", k}, nil
}

func checkHash(hash string) error {
	if raw, err := hex.DecodeString(hash); err != nil || len(raw) != 32 || hex.EncodeToString(raw) != hash {
		return refuse(protocol.CodeInvalid, "hash", "hash must be a SHA-256 in 64 lower-case hexadecimal digits")
	}
	return nil
}

func checkPrefix(prefix string) error {
	if len(prefix) > 16 {
		return refuse(protocol.CodeInvalid, "prefix", "prefix must have at most 16 characters: it is stored readable")
	}
	return checkText("prefix", prefix, 16)
}

func checkScopes(scopes []string) error {
	known := append(protocol.TenantScopes(), protocol.ScopeAdmin)
	if len(scopes) == 0 {
		return refuse(protocol.CodeInvalid, "scopes", "a key needs at least one scope")
	}
	for _, scope := range scopes {
		if !slices.Contains(known, scope) {
			return refuse(protocol.CodeInvalid, "scopes", "there is no scope "+quote(scope))
		}
	}
	return nil
}

func checkExpiry(expires, at protocol.Time) error {
	if !expires.IsZero() && !expires.After(at.Time) {
		return refuse(protocol.CodeInvalid, "expires_at", "expires_at must lie in the future")
	}
	return nil
}
