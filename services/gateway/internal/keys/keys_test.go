package keys

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

func book() *Book {
	b := NewBook("the admin key of this test", zap.NewNop())
	close(b.ready)
	b.once.Do(func() {})
	return b
}

func put(b *Book, kind protocol.CatalogKind, id string, doc any) {
	raw, _ := json.Marshal(doc)
	b.Apply(protocol.CatalogEvent{Type: string(kind) + "_updated.v1", Tenant: "t", Kind: kind, ID: id, Document: raw})
}

func tenant(b *Book, status string) {
	put(b, protocol.KindTenant, "t", protocol.Tenant{ID: "t", Status: status})
}

func TestIdentify(t *testing.T) {
	b := book()
	secret := NewSecret()
	k := protocol.Key{ID: "key_1", Tenant: "t", Hash: secret.Hash, Scopes: []string{protocol.ScopeWorkflowsRead}, Status: protocol.StatusActive}
	put(b, protocol.KindKey, k.ID, k)
	_, err := b.Identify(secret.Key)
	require.ErrorIs(t, err, ErrUnknown, "a key without its tenant opens nothing")

	tenant(b, protocol.StatusActive)
	who, err := b.Identify(secret.Key)
	require.NoError(t, err)
	require.Equal(t, protocol.TenantID("t"), who.Tenant)
	require.True(t, who.May(protocol.ScopeWorkflowsRead))
	require.False(t, who.May(protocol.ScopeWorkflowsWrite))
	require.False(t, who.Platform)

	k.Scopes = []string{protocol.ScopeAdmin}
	put(b, protocol.KindKey, k.ID, k)
	who, err = b.Identify(secret.Key)
	require.NoError(t, err)
	require.True(t, who.May(protocol.ScopeSourcesWrite))
	require.False(t, who.Platform, "the admin of one tenant is not that of all")

	tenant(b, protocol.StatusSuspended)
	who, err = b.Identify(secret.Key)
	require.ErrorIs(t, err, ErrSuspended)
	require.Equal(t, "key_1", who.Actor, "the audit must know whom it refused")
	tenant(b, protocol.StatusActive)

	k.Status = protocol.StatusRevoked
	put(b, protocol.KindKey, k.ID, k)
	_, err = b.Identify(secret.Key)
	require.ErrorIs(t, err, ErrRevoked)

	for _, wrong := range []string{"", "af_", secret.Hash, secret.Key + "0", NewSecret().Key} {
		_, err = b.Identify(wrong)
		require.ErrorIs(t, err, ErrUnknown)
	}
	who, err = b.Identify("the admin key of this test")
	require.NoError(t, err)
	require.True(t, who.Platform)
	require.True(t, who.May(protocol.ScopeSourcesWrite))
	require.Empty(t, who.Tenant)
	_, err = NewBook("", zap.NewNop()).Identify("")
	require.Error(t, err, "no admin key is not an empty one")
}

func TestRotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := book()
		tenant(b, protocol.StatusActive)
		old, fresh := NewSecret(), NewSecret()
		k := protocol.Key{ID: "key_1", Tenant: "t", Hash: old.Hash, Status: protocol.StatusActive}
		put(b, protocol.KindKey, k.ID, k)
		k.Hash, k.PreviousHash, k.PreviousExpiresAt = fresh.Hash, old.Hash, protocol.At(time.Now().Add(time.Hour))
		put(b, protocol.KindKey, k.ID, k)
		for _, key := range []string{old.Key, fresh.Key} {
			_, err := b.Identify(key)
			require.NoError(t, err)
		}
		time.Sleep(time.Hour) //nolint:forbidigo // inside testing/synctest
		_, err := b.Identify(old.Key)
		require.ErrorIs(t, err, ErrExpired)
		_, err = b.Identify(fresh.Key)
		require.NoError(t, err)

		k.PreviousHash = ""
		put(b, protocol.KindKey, k.ID, k)
		_, err = b.Identify(old.Key)
		require.ErrorIs(t, err, ErrUnknown, "a rotation leaves nothing behind")
		require.Len(t, b.keys, 1)

		b.Apply(protocol.CatalogEvent{Type: "key_updated.v9", Tenant: "t", Kind: protocol.KindKey, ID: "key_1", Document: json.RawMessage(`{"hash":7}`)})
		_, err = b.Identify(fresh.Key)
		require.ErrorIs(t, err, ErrUnknown, "a document that cannot be read closes the door")
	})
}

func TestNotReady(t *testing.T) {
	b := NewBook("", zap.NewNop())
	_, err := b.Identify(NewSecret().Key)
	require.ErrorIs(t, err, ErrNotReady)
}

func TestSecret(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	require.NotEqual(t, a.Key, b.Key)
	require.Regexp(t, `^af_[0-9a-f]{64}$`, a.Key)
	require.Len(t, a.Hash, 64)
	require.Equal(t, a.Key[:prefixLength], a.Prefix)
}
