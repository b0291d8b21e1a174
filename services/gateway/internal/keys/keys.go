// Package keys knows every API key and every tenant of the platform: it is the gateway's copy of
// what catalog decides about them, kept coherent by the events of the CATALOG stream.
//
// It answers who a presented key speaks for, without asking anybody. It makes new secrets; it
// never keeps one: a key is known by its SHA-256 alone.
package keys

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Why a key was not accepted.
var (
	ErrNotReady  = errors.New("keys are not loaded yet")
	ErrUnknown   = errors.New("no such key")
	ErrRevoked   = errors.New("the key was revoked")
	ErrExpired   = errors.New("the key has expired")
	ErrSuspended = errors.New("the tenant is suspended")
)

// Identity is on whose behalf a request is made.
type Identity struct {
	Tenant    protocol.TenantID
	Actor     string // id of the key, "admin" for the platform's own, "anonymous" without one
	Platform  bool   // it is the platform's own key, which may act for every tenant
	Scopes    []string
	Limits    *protocol.TenantLimits // of the tenant, nil for the defaults
	KeyLimits *protocol.TenantLimits // of the key itself
}

// May tells whether the identity has a scope. Admin has them all, of its own tenant: it could make
// itself a key that has them.
func (i *Identity) May(scope string) bool {
	return slices.Contains(i.Scopes, scope) || slices.Contains(i.Scopes, protocol.ScopeAdmin)
}

// follower is the part of the bus that tells of changes.
type follower interface {
	FollowCatalog(ctx context.Context, filters []string, fn func(e protocol.CatalogEvent, seq uint64), ready func()) error
}

type digest [sha256.Size]byte

// Book is every key and tenant. It is safe for concurrent use.
type Book struct {
	admin *digest // of the platform's own key
	log   *zap.Logger
	now   func() time.Time

	ready chan struct{}
	once  sync.Once

	mu      sync.RWMutex
	keys    map[digest]*entry
	byID    map[string][]digest // so that a key whose hash changed leaves nothing behind
	tenants map[protocol.TenantID]*protocol.Tenant
}

type entry struct {
	status   string
	until    time.Time // zero: for ever
	hash     digest
	identity Identity // without the limits of the tenant, which change on their own
}

// NewBook makes an empty book. adminKey is the platform's own key; "" turns it off.
func NewBook(adminKey string, log *zap.Logger) *Book {
	b := &Book{
		log: log, now: time.Now, ready: make(chan struct{}),
		keys: map[digest]*entry{}, byID: map[string][]digest{}, tenants: map[protocol.TenantID]*protocol.Tenant{},
	}
	if adminKey != "" {
		d := digest(sha256.Sum256([]byte(adminKey)))
		b.admin = &d
	}
	return b
}

// Follow keeps the book until ctx ends.
func (b *Book) Follow(ctx context.Context, from follower) error {
	filters := []string{protocol.CatalogFilter("", protocol.KindTenant), protocol.CatalogFilter("", protocol.KindKey)}
	return from.FollowCatalog(ctx, filters, func(e protocol.CatalogEvent, _ uint64) { b.Apply(e) }, func() {
		b.once.Do(func() { close(b.ready) })
	})
}

// Ready is nil once everything that stood in the catalog at the start has been read.
func (b *Book) Ready(context.Context) error {
	select {
	case <-b.ready:
		return nil
	default:
		return ErrNotReady
	}
}

// Apply takes in one event of a tenant or a key.
func (b *Book) Apply(e protocol.CatalogEvent) {
	var err error
	switch e.Kind {
	case protocol.KindTenant:
		err = b.applyTenant(e)
	case protocol.KindKey:
		err = b.applyKey(e)
	case protocol.KindWorkflow, protocol.KindSource:
		return
	}
	if err != nil {
		b.log.Error("catalog event not understood", zap.String("type", e.Type), zap.String("id", e.ID), zap.Error(err))
	}
}

func (b *Book) applyTenant(e protocol.CatalogEvent) error {
	var t protocol.Tenant
	if err := json.Unmarshal(e.Document, &t); err != nil {
		return fmt.Errorf("read tenant: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e.Deleted() {
		delete(b.tenants, e.Tenant)
		return nil
	}
	b.tenants[e.Tenant] = &t
	return nil
}

func (b *Book) applyKey(e protocol.CatalogEvent) error {
	var k protocol.Key
	err := json.Unmarshal(e.Document, &k)
	var entries []*entry
	if err == nil && !e.Deleted() {
		entries, err = entriesOf(k)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	// Whatever the event says, what was known of the key is out of date: a document that cannot be
	// read must close the door, not leave it open.
	for _, old := range b.byID[e.ID] {
		delete(b.keys, old)
	}
	delete(b.byID, e.ID)
	if err != nil {
		return fmt.Errorf("read key: %w", err)
	}
	for _, en := range entries {
		b.keys[en.hash] = en
		b.byID[e.ID] = append(b.byID[e.ID], en.hash)
	}
	return nil
}

// entriesOf lists the secrets that open the door for a key: its own, and for a while after a
// rotation the one of before.
func entriesOf(k protocol.Key) ([]*entry, error) {
	identity := Identity{Tenant: k.Tenant, Actor: k.ID, Scopes: k.Scopes, KeyLimits: k.Limits}
	hash, err := digestOf(k.Hash)
	if err != nil {
		return nil, err
	}
	entries := []*entry{{status: k.Status, until: k.ExpiresAt.Time, hash: hash, identity: identity}}
	if k.PreviousHash == "" || k.PreviousExpiresAt.IsZero() {
		return entries, nil
	}
	if hash, err = digestOf(k.PreviousHash); err != nil {
		return nil, err
	}
	until := k.PreviousExpiresAt.Time
	if !k.ExpiresAt.IsZero() && k.ExpiresAt.Before(until) {
		until = k.ExpiresAt.Time
	}
	return append(entries, &entry{status: k.Status, until: until, hash: hash, identity: identity}), nil
}

func digestOf(hexHash string) (digest, error) {
	raw, err := hex.DecodeString(hexHash)
	if err != nil || len(raw) != sha256.Size {
		return digest{}, fmt.Errorf("hash of %d characters is not a SHA-256", len(hexHash))
	}
	return digest(raw), nil
}

// Identify says who presents a key. The error is one of this package's. With ErrRevoked,
// ErrExpired and ErrSuspended the identity names the tenant and the key, for the audit.
func (b *Book) Identify(presented string) (Identity, error) {
	hash := digest(sha256.Sum256([]byte(presented)))
	if b.admin != nil && subtle.ConstantTimeCompare(hash[:], b.admin[:]) == 1 {
		return Identity{Actor: "admin", Platform: true, Scopes: []string{protocol.ScopeAdmin}}, nil
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	e := b.keys[hash]
	if e == nil || subtle.ConstantTimeCompare(hash[:], e.hash[:]) != 1 {
		if err := b.Ready(context.Background()); err != nil {
			return Identity{}, err
		}
		return Identity{}, ErrUnknown
	}
	id := e.identity
	tenant := b.tenants[id.Tenant]
	switch {
	case e.status == protocol.StatusExpired || !e.until.IsZero() && !b.now().Before(e.until):
		return id, ErrExpired
	case e.status != protocol.StatusActive:
		return id, ErrRevoked
	case tenant == nil:
		// Keys and tenants are read in the order of their last change, so at the start a key may
		// come before its tenant.
		if err := b.Ready(context.Background()); err != nil {
			return id, err
		}
		return id, ErrUnknown
	case tenant.Status != protocol.StatusActive:
		return id, ErrSuspended
	}
	id.Limits = tenant.Limits
	return id, nil
}

// Tenant returns what is known of a tenant, or false.
func (b *Book) Tenant(id protocol.TenantID) (protocol.Tenant, bool) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	t, ok := b.tenants[id]
	if !ok {
		return protocol.Tenant{}, false
	}
	return *t, true
}
