package service

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/credential"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

func TestTenantsAndKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	_, err := try[protocol.Tenant](w, acme, protocol.VerbTenantCreate, protocol.CreateTenant{})
	requireCode(t, err, protocol.CodeConflict)
	_, err = try[protocol.Tenant](w, "no such", protocol.VerbTenantCreate, protocol.CreateTenant{})
	requireCode(t, err, protocol.CodeInvalid)

	hash, second := strings.Repeat("ab", 32), strings.Repeat("cd", 32)
	_, err = try[protocol.Key](w, "nobody", protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: hash})
	requireCode(t, err, protocol.CodeNotFound)
	made := do[protocol.Key](w, acme, protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: hash, Prefix: "af_12345678"})
	require.NoError(t, typeid.Check("key", made.ID))
	require.Equal(t, credential.Mask, made.Hash, "an answer never tells the hash")
	require.ElementsMatch(t, protocol.TenantScopes(), made.Scopes)
	for field, bad := range map[string]protocol.CreateKey{
		"hash":              {Name: "k", Hash: "abc"},
		"name":              {Hash: second},
		"scopes":            {Name: "k", Hash: second, Scopes: []string{"everything"}},
		"expires_at":        {Name: "k", Hash: second, ExpiresAt: protocol.At(time.Now().Add(-time.Hour))},
		"prefix":            {Name: "k", Hash: second, Prefix: strings.Repeat("x", 17)},
		"limits.burst_size": {Name: "k", Hash: second, Limits: &protocol.TenantLimits{BurstSize: ptr(-1)}},
	} {
		_, err := try[protocol.Key](w, acme, protocol.VerbKeyCreate, bad)
		require.Equal(t, field, refusalOf(t, err, protocol.CodeInvalid).Field)
	}
	// Nobody gets the same secret twice, whoever asks.
	beta := w.tenant("beta")
	_, err = try[protocol.Key](w, beta, protocol.VerbKeyCreate, protocol.CreateKey{Name: "k", Hash: hash})
	requireCode(t, err, protocol.CodeConflict)

	do[protocol.Key](w, acme, protocol.VerbKeyRotate, protocol.RotateKey{ID: made.ID, Hash: second, Prefix: "af_87654321", OverlapSeconds: 60})
	var doc protocol.Key
	require.NoError(t, json.Unmarshal(w.last(acme, protocol.KindKey, made.ID).Document, &doc))
	require.Equal(t, second, doc.Hash)
	require.Equal(t, hash, doc.PreviousHash)
	require.Equal(t, w.last(acme, protocol.KindKey, made.ID).At.Add(time.Minute), doc.PreviousExpiresAt.Time)

	past := protocol.At(time.Now().Add(-time.Minute))
	do[protocol.Key](w, acme, protocol.VerbKeyUpdate, protocol.UpdateKey{ID: made.ID, ExpiresAt: &past})
	k, err := w.getKey(t.Context(), protocol.GetKeyRequest{Tenant: acme, ID: made.ID})
	require.NoError(t, err)
	require.Equal(t, protocol.StatusExpired, k.Status)
	require.Equal(t, credential.Mask, k.Hash)
	for status, n := range map[string]int{"": 1, protocol.StatusActive: 0, protocol.StatusExpired: 1, protocol.StatusRevoked: 0} {
		l, err := w.listKeys(t.Context(), protocol.ListKeysRequest{Tenant: acme, Status: status})
		require.NoError(t, err)
		require.Len(t, l.Items, n, status)
	}

	eternal := do[protocol.Key](w, acme, protocol.VerbKeyUpdate, protocol.UpdateKey{ID: made.ID, NeverExpires: true})
	require.True(t, eternal.ExpiresAt.IsZero())
	require.Equal(t, protocol.StatusActive, eternal.Status)
	_, err = try[protocol.Key](w, acme, protocol.VerbKeyUpdate, protocol.UpdateKey{ID: made.ID, NeverExpires: true, ExpiresAt: &past})
	require.Equal(t, "expires_at", refusalOf(t, err, protocol.CodeInvalid).Field)

	revoked := do[protocol.Key](w, acme, protocol.VerbKeyRevoke, protocol.RevokeKey{ID: made.ID})
	require.Equal(t, protocol.StatusRevoked, revoked.Status)
	again := do[protocol.Key](w, acme, protocol.VerbKeyRevoke, protocol.RevokeKey{ID: made.ID})
	require.Equal(t, revoked, again)
	_, err = try[protocol.Key](w, acme, protocol.VerbKeyRotate, protocol.RotateKey{ID: made.ID, Hash: strings.Repeat("ef", 32)})
	requireCode(t, err, protocol.CodeConflict)

	// A suspended tenant does not write.
	do[protocol.Tenant](w, acme, protocol.VerbTenantUpdate, protocol.UpdateTenant{Status: ptr(protocol.StatusSuspended)})
	require.Equal(t, "tenant_suspended.v1", w.last(acme, protocol.KindTenant, "acme").Type)
	_, err = try[protocol.Workflow](w, acme, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{Name: "n", Spec: plain()})
	requireCode(t, err, protocol.CodeForbidden)
	do[protocol.Tenant](w, acme, protocol.VerbTenantUpdate, protocol.UpdateTenant{
		Status: ptr(protocol.StatusActive), Limits: &protocol.TenantLimits{RequestsPerMinute: ptr(7)},
	})
	got, err := w.store.GetTenant(t.Context(), acme)
	require.NoError(t, err)
	require.Equal(t, 7, *got.Limits.RequestsPerMinute)
	all, err := w.store.ListTenants(t.Context(), protocol.ListTenantsRequest{Page: protocol.Page{Limit: 1}})
	require.NoError(t, err)
	require.EqualValues(t, 2, all.Total)
	require.True(t, all.HasMore)
	require.Equal(t, beta, all.Items[0].ID)

	// Every write is in the audit, none with a hash.
	raw, err := json.Marshal(w.audit(acme))
	require.NoError(t, err)
	require.NotContains(t, string(raw), hash)
	require.NotContains(t, string(raw), second)
	var actions []string
	for _, a := range w.audit(acme) {
		actions = append(actions, a.Action)
		require.Equal(t, "key_tester", a.Actor)
		require.NotEmpty(t, a.After)
		require.NotEmpty(t, a.RequestID)
		if a.Action == "tenant_suspended" {
			require.Contains(t, string(a.Before), `"active"`)
			require.Contains(t, string(a.After), `"suspended"`)
		}
	}
	require.ElementsMatch(t, []string{
		"tenant_created", "key_created", "key_rotated", "key_updated", "key_updated", "key_revoked", "tenant_suspended", "tenant_resumed",
	}, actions)
}

func TestRefusedAccessIsAudited(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{})
	acme := w.tenant("acme")
	at := protocol.At(time.Date(2026, 5, 1, 12, 0, 10, 0, time.UTC))
	for i := range 5 {
		_, err := w.recordAudit(t.Context(), protocol.RecordAuditRequest{
			Tenant: acme, Actor: "key_1", Reason: "key revoked", At: protocol.At(at.Add(time.Duration(i) * time.Second)),
		})
		require.NoError(t, err)
	}
	_, err := w.recordAudit(t.Context(), protocol.RecordAuditRequest{Tenant: acme, Actor: "key_1", Reason: "key revoked", At: protocol.At(at.Add(time.Minute))})
	require.NoError(t, err)
	l, err := w.store.ListAudit(t.Context(), protocol.ListAuditRequest{Tenant: acme, Action: protocol.ActionAccessRefused})
	require.NoError(t, err)
	require.Len(t, l.Items, 2, "one record a minute")
	require.Equal(t, "key revoked", l.Items[0].Reason)
}
