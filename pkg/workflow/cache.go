package workflow

import (
	"container/list"
	"fmt"
	"sync"
)

// Cache keeps the plans that were used last, by the hash of their document. It is safe for
// concurrent use. Two goroutines that miss at once both compile; one plan stays.
type Cache struct {
	size int

	mu     sync.Mutex
	recent *list.List // of *Plan, the latest used in front
	byHash map[string]*list.Element
}

// NewCache makes a cache of at most size plans, at least one.
func NewCache(size int) *Cache {
	return &Cache{size: max(size, 1), recent: list.New(), byHash: make(map[string]*list.Element)}
}

// Plan returns the plan of the document with that hash. On a miss it calls load for the
// document, outside its lock, and parses and compiles it. A document with another hash is
// refused: whoever stored it, it is not what was asked for.
func (c *Cache) Plan(hash string, load func() ([]byte, error)) (*Plan, error) {
	if p, ok := c.get(hash); ok {
		return p, nil
	}
	doc, err := load()
	if err != nil {
		return nil, fmt.Errorf("load workflow %s: %w", shorten(hash), err)
	}
	if got := Hash(doc); got != hash {
		return nil, fmt.Errorf("load workflow %s: the document has the hash %s", shorten(hash), got)
	}
	spec, err := Parse(doc)
	if err != nil {
		return nil, fmt.Errorf("load workflow %s: %w", hash, err)
	}
	p, err := Compile(spec)
	if err != nil {
		return nil, fmt.Errorf("load workflow %s: %w", hash, err)
	}
	return c.put(p), nil
}

// Len returns the number of plans kept.
func (c *Cache) Len() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.recent.Len()
}

func (c *Cache) get(hash string) (*Plan, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byHash[hash]
	if !ok {
		return nil, false
	}
	c.recent.MoveToFront(e)
	return planIn(e), true
}

func (c *Cache) put(p *Plan) *Plan {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byHash[p.Hash]; ok {
		c.recent.MoveToFront(e)
		return planIn(e)
	}
	c.byHash[p.Hash] = c.recent.PushFront(p)
	for c.recent.Len() > c.size {
		oldest := c.recent.Back()
		c.recent.Remove(oldest)
		delete(c.byHash, planIn(oldest).Hash)
	}
	return p
}

func planIn(e *list.Element) *Plan {
	p, _ := e.Value.(*Plan) // only put stores, and it stores plans
	return p
}
