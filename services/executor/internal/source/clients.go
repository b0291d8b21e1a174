package source

import (
	"crypto/sha256"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
)

// clientCache keeps the providers' SDK clients. A client costs more to make than a call, and it
// holds no connection of its own: all of them share the guarded transport.
type clientCache struct {
	mu   sync.Mutex
	byID *lru.Cache[clientKey, any]
}

// clientKey tells clients apart. The key is in it as a hash, so that a heap dump of the cache
// is not a list of keys by name.
type clientKey struct {
	provider string
	base     string
	extra    string
	key      [sha256.Size]byte
}

const maxClients = 1024

func newClientCache() *clientCache {
	cache, err := lru.New[clientKey, any](maxClients) // fails for a size below one alone
	if err != nil {
		panic(err)
	}
	return &clientCache{byID: cache}
}

// client answers the client for these settings, making it once.
func client[T any](c *clientCache, provider, base, extra, key string, build func() (T, error)) (T, error) {
	id := clientKey{provider: provider, base: base, extra: extra, key: sha256.Sum256([]byte(key))}
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, ok := c.byID.Get(id); ok {
		if found, ok := v.(T); ok {
			return found, nil
		}
	}
	made, err := build()
	if err != nil {
		return made, err
	}
	c.byID.Add(id, made)
	return made, nil
}
