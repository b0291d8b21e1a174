package source

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"
)

// poolKey is the identity of a pool. The connection string is in it as a hash.
type poolKey [sha256.Size]byte

func poolKeyOf(tenant, source, dsn string, k poolKnobs) poolKey {
	return sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d\x00%d\x00%d", tenant, source, dsn, k.size, k.overflow, k.wait))
}

// poolCache keeps the SQL pools in use and closes those that nobody has used for a while.
type poolCache struct {
	idle time.Duration

	mu     sync.Mutex
	pools  map[poolKey]*pooled
	timer  *time.Timer // runs while there is a pool
	closed bool
}

type pooled struct {
	pool   sqlPool
	tenant string
	busy   int // calls that hold it
	used   time.Time
}

// maxTenantPools is how many databases one tenant may have open at a time: each holds connections
// of ours and of its server.
const maxTenantPools = 50

func newPoolCache(idle time.Duration) *poolCache {
	return &poolCache{idle: idle, pools: map[poolKey]*pooled{}}
}

// get answers the pool of key, opening it when there is none, and the function that gives it back.
// Opening dials nothing.
func (p *poolCache) get(tenant string, key poolKey, open func() (sqlPool, error)) (sqlPool, func(), error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	entry, err := p.entry(tenant, key, open)
	if err != nil {
		return nil, nil, err
	}
	entry.busy++
	return entry.pool, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		entry.busy--
		entry.used = time.Now()
	}, nil
}

func (p *poolCache) entry(tenant string, key poolKey, open func() (sqlPool, error)) (*pooled, error) {
	if p.closed {
		return nil, &Error{Class: ClassCanceled, Message: "the executor is stopping"}
	}
	if found, ok := p.pools[key]; ok {
		return found, nil
	}
	held := 0
	for _, entry := range p.pools {
		if entry.tenant == tenant {
			held++
		}
	}
	if held >= maxTenantPools {
		return nil, &Error{
			Class: ClassRefused, Code: "too_many_pools", RetryAfter: p.idle,
			Message: fmt.Sprintf("this tenant has %d databases open already; one is closed when nobody has used it for %s", held, p.idle),
		}
	}
	pool, err := open()
	if err != nil {
		return nil, err
	}
	opened := &pooled{pool: pool, tenant: tenant, used: time.Now()}
	p.pools[key] = opened
	if p.timer == nil {
		p.timer = time.AfterFunc(p.idle, p.sweep)
	}
	return opened, nil
}

// sweep closes what has been idle.
func (p *poolCache) sweep() {
	p.mu.Lock()
	var old []sqlPool
	now := time.Now()
	next := p.idle
	for key, entry := range p.pools {
		if entry.busy > 0 {
			continue
		}
		if left := p.idle - now.Sub(entry.used); left > 0 {
			next = min(next, left)
			continue
		}
		old = append(old, entry.pool)
		delete(p.pools, key)
	}
	p.timer = nil
	if len(p.pools) > 0 && !p.closed {
		p.timer = time.AfterFunc(next, p.sweep)
	}
	p.mu.Unlock()
	for _, pool := range old {
		_ = pool.close() // the pool is forgotten either way
	}
}

func (p *poolCache) close() error {
	p.mu.Lock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	pools := p.pools
	p.pools = map[poolKey]*pooled{}
	p.mu.Unlock()
	var errs []error
	for _, entry := range pools {
		errs = append(errs, entry.pool.close())
	}
	return errors.Join(errs...)
}
