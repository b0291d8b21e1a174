package catalogcache

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// fakeLog is a catalog log in memory that can be held while it is read.
type fakeLog struct {
	mu     sync.Mutex
	events map[string]protocol.CatalogEvent
	seq    uint64
	reads  int
	hold   chan struct{}
}

func (l *fakeLog) LastCatalog(_ context.Context, _ protocol.TenantID, _ protocol.CatalogKind, id string) (protocol.CatalogEvent, uint64, error) {
	l.mu.Lock()
	e, ok := l.events[id]
	seq, hold := l.seq, l.hold
	l.reads++
	l.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if !ok {
		return e, 0, bus.ErrNotFound
	}
	return e, seq, nil
}

func (l *fakeLog) put(id string, version int) (protocol.CatalogEvent, uint64) {
	doc, _ := json.Marshal(protocol.Workflow{ID: id, Version: version, Spec: json.RawMessage(`{}`)})
	e := protocol.CatalogEvent{Type: "workflow_updated.v1", Tenant: "t", Kind: protocol.KindWorkflow, ID: id, Document: doc}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	l.events[id] = e
	return e, l.seq
}

func newCache(t *testing.T) (*Cache, *fakeLog) {
	t.Helper()
	l := &fakeLog{events: map[string]protocol.CatalogEvent{}}
	c, err := New(l, zap.NewNop())
	require.NoError(t, err)
	return c, l
}

func version(t *testing.T, c *Cache, id string) int {
	t.Helper()
	w, err := c.Workflow(t.Context(), "t", id)
	require.NoError(t, err)
	return w.Version
}

func TestReadThrough(t *testing.T) {
	c, l := newCache(t)
	_, err := c.Workflow(t.Context(), "t", "wf")
	require.ErrorIs(t, err, bus.ErrNotFound)
	l.put("wf", 1)
	require.Equal(t, 1, version(t, c, "wf"), "an absence is not kept")
	require.Equal(t, 1, version(t, c, "wf"))
	require.Equal(t, 2, l.reads, "a document is")

	c.apply(l.put("wf", 2))
	require.Equal(t, 2, version(t, c, "wf"))
	require.Equal(t, 2, l.reads, "the event brought it")
	l.put("wf", 3)
	c.Forget("t", protocol.KindWorkflow, "wf")
	require.Equal(t, 3, version(t, c, "wf"))
}

// TestChangeWhileReading has an event pass a read that saw the state before it.
func TestChangeWhileReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := newCache(t)
		l.put("wf", 1)
		l.hold = make(chan struct{})
		done := make(chan int)
		for range 3 {
			go func() { done <- version(t, c, "wf") }()
		}
		synctest.Wait()
		require.Equal(t, 1, l.reads, "one read for all")
		c.apply(l.put("wf", 2))
		close(l.hold)
		for range 3 {
			require.Equal(t, 1, <-done)
		}
		require.Equal(t, 2, version(t, c, "wf"), "what was read before the change is not kept")
	})
}

func TestOldAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, l := newCache(t)
		l.put("wf", 1)
		require.Equal(t, 1, version(t, c, "wf"))
		l.put("wf", 2)     // an event that never came
		time.Sleep(maxAge) //nolint:forbidigo // inside testing/synctest
		require.Equal(t, 2, version(t, c, "wf"))
	})
}

func TestBounds(t *testing.T) {
	c, _ := newCache(t)
	for i := range 2 * maxDocuments {
		size := 1
		if i < 20 {
			size = 8 << 20
		}
		c.keep(place{"t", protocol.KindWorkflow, strconv.Itoa(i % (maxDocuments + 10))}, &document{size: size})
		require.LessOrEqual(t, c.bytes, maxBytes)
	}
	require.Equal(t, maxDocuments, c.documents.Len())
	for c.documents.Len() > 0 {
		c.documents.RemoveOldest()
	}
	require.Zero(t, c.bytes, "every byte is accounted for")
}
