// Package catalogcache holds the stored workflows and kept sources that executions are started
// from, so that a start neither asks Postgres nor, for what was used lately, the network.
//
// The catalog's log is the truth: a document that is not here is read from it, and an event that
// changes a document replaces it here. Lists and searches are not its business.
package catalogcache

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// maxAge bounds how long a document is believed without looking again, should an event be lost
// while the connection was.
const maxAge = 30 * time.Second

// Bounds of the cache: a document may be as large as a megabyte.
const (
	maxDocuments = 4096
	maxBytes     = 64 << 20
)

// source is the catalog's log.
type source interface {
	LastCatalog(ctx context.Context, t protocol.TenantID, kind protocol.CatalogKind, id string) (protocol.CatalogEvent, uint64, error)
}

// watcher tells of changes.
type watcher interface {
	WatchCatalog(ctx context.Context, filters []string, fn func(e protocol.CatalogEvent, seq uint64)) error
}

type place struct {
	tenant protocol.TenantID
	kind   protocol.CatalogKind
	id     string
}

type document struct {
	sequence uint64
	size     int
	read     time.Time
	workflow *protocol.Workflow
	source   *protocol.KeptSource
}

// Cache is a bounded set of documents. It is safe for concurrent use.
type Cache struct {
	log  *zap.Logger
	from source
	now  func() time.Time

	mu        sync.Mutex
	documents *simplelru.LRU[place, *document]
	bytes     int // of all documents, as they were sent
	reading   map[place]*read
}

// read is one look into the log, shared by all who wait for the same document.
type read struct {
	done    chan struct{}
	doc     *document
	err     error
	changed bool // an event came meanwhile: what was read may be old, and must not be kept
}

// New makes an empty cache.
func New(from source, log *zap.Logger) (*Cache, error) {
	c := &Cache{log: log, from: from, now: time.Now, reading: map[place]*read{}}
	documents, err := simplelru.NewLRU(maxDocuments, func(_ place, d *document) { c.bytes -= d.size })
	if err != nil {
		return nil, fmt.Errorf("catalog cache: %w", err)
	}
	c.documents = documents
	return c, nil
}

// keep adds or replaces a document. The caller holds the lock.
func (c *Cache) keep(at place, d *document) {
	c.documents.Remove(at) // a replaced document is not reported as evicted
	d.read = c.now()
	c.bytes += d.size
	c.documents.Add(at, d)
	for c.bytes > maxBytes && c.documents.Len() > 1 {
		c.documents.RemoveOldest()
	}
}

// Follow keeps the cache coherent until ctx ends.
func (c *Cache) Follow(ctx context.Context, from watcher) error {
	filters := []string{protocol.CatalogFilter("", protocol.KindWorkflow), protocol.CatalogFilter("", protocol.KindSource)}
	return from.WatchCatalog(ctx, filters, c.apply)
}

// apply takes in a change: a document that is here is replaced, one that is being read is read for
// those who asked but not kept.
func (c *Cache) apply(e protocol.CatalogEvent, seq uint64) {
	at := place{e.Tenant, e.Kind, e.ID}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.reading[at]; r != nil {
		r.changed = true
	}
	old, ok := c.documents.Peek(at)
	if !ok || old.sequence >= seq {
		return
	}
	doc, err := decode(e, seq)
	if err != nil {
		c.log.Error("catalog event not understood", zap.String("type", e.Type), zap.String("id", e.ID), zap.Error(err))
		c.documents.Remove(at)
		return
	}
	c.keep(at, doc)
}

// Forget drops a document that this process has just changed, so that its next reader here sees
// the change even before the event arrives.
func (c *Cache) Forget(t protocol.TenantID, kind protocol.CatalogKind, id string) {
	at := place{t, kind, id}
	c.mu.Lock()
	defer c.mu.Unlock()
	if r := c.reading[at]; r != nil {
		r.changed = true
	}
	c.documents.Remove(at)
}

// Workflow returns a stored workflow, deleted ones too. It is shared: do not change it.
// bus.ErrNotFound says that the tenant has none of that id.
func (c *Cache) Workflow(ctx context.Context, t protocol.TenantID, id string) (*protocol.Workflow, error) {
	doc, err := c.get(ctx, place{t, protocol.KindWorkflow, id})
	if err != nil {
		return nil, err
	}
	return doc.workflow, nil
}

// Source returns a kept source, as Workflow does.
func (c *Cache) Source(ctx context.Context, t protocol.TenantID, id string) (*protocol.KeptSource, error) {
	doc, err := c.get(ctx, place{t, protocol.KindSource, id})
	if err != nil {
		return nil, err
	}
	return doc.source, nil
}

func (c *Cache) get(ctx context.Context, at place) (*document, error) {
	c.mu.Lock()
	if doc, ok := c.documents.Get(at); ok && c.now().Sub(doc.read) < maxAge {
		c.mu.Unlock()
		return doc, nil
	}
	r := c.reading[at]
	if r == nil {
		r = &read{done: make(chan struct{})}
		c.reading[at] = r
		c.mu.Unlock()
		// Others may be waiting for this read: it must not end with the request that began it.
		c.load(context.WithoutCancel(ctx), at, r)
	} else {
		c.mu.Unlock()
	}
	select {
	case <-r.done:
		return r.doc, r.err
	case <-ctx.Done():
		return nil, fmt.Errorf("read %s %s: %w", at.kind, at.id, errors.Join(bus.ErrUnavailable, ctx.Err()))
	}
}

func (c *Cache) load(ctx context.Context, at place, r *read) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	event, seq, err := c.from.LastCatalog(ctx, at.tenant, at.kind, at.id)
	var doc *document
	switch {
	case errors.Is(err, bus.ErrNotFound):
	case err != nil:
		err = errors.Join(bus.ErrUnavailable, err)
	default:
		doc, err = decode(event, seq)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.reading, at)
	if r.doc, r.err = doc, err; err == nil && !r.changed {
		// The place may come from a request's buffer, which is used again.
		at.id = event.ID
		c.keep(at, doc)
	}
	close(r.done)
}

func decode(e protocol.CatalogEvent, seq uint64) (*document, error) {
	doc := &document{sequence: seq, size: len(e.Document)}
	var into any
	switch e.Kind {
	case protocol.KindWorkflow:
		doc.workflow = &protocol.Workflow{}
		into = doc.workflow
	case protocol.KindSource:
		doc.source = &protocol.KeptSource{}
		into = doc.source
	case protocol.KindTenant, protocol.KindKey:
		return nil, fmt.Errorf("%s is not kept here", e.Kind)
	}
	if err := json.Unmarshal(e.Document, into); err != nil {
		return nil, fmt.Errorf("read %s %s: %w", e.Kind, e.ID, err)
	}
	return doc, nil
}
