package source

import (
	"errors"
	"fmt"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
	lru "github.com/hashicorp/golang-lru/v2"
)

// BreakerConfig tunes the circuit breakers; zero fields take the defaults.
type BreakerConfig struct {
	Failures    uint          // failures within Window that open a breaker, when they are half of all calls; 10
	Window      time.Duration // 30 s
	OpenFor     time.Duration // how long an open breaker refuses before it lets one call try; 5 s
	maxBreakers int
}

// breakers holds one circuit breaker per tenant and source. Tenants never share one: what a
// tenant does to its own source must not take the same provider away from another.
type breakers struct {
	cfg  BreakerConfig
	byID *lru.Cache[string, circuitbreaker.CircuitBreaker[any]]
}

func newBreakers(cfg BreakerConfig) *breakers {
	if cfg.Failures == 0 {
		cfg.Failures = 10
	}
	if cfg.Window <= 0 {
		cfg.Window = 30 * time.Second
	}
	if cfg.OpenFor <= 0 {
		cfg.OpenFor = 5 * time.Second
	}
	if cfg.maxBreakers <= 0 {
		cfg.maxBreakers = 8192
	}
	// New fails for a size below one alone. Forgetting the coldest breaker only closes it.
	cache, err := lru.New[string, circuitbreaker.CircuitBreaker[any]](cfg.maxBreakers)
	if err != nil {
		panic(err)
	}
	return &breakers{cfg: cfg, byID: cache}
}

func (b *breakers) get(key string) circuitbreaker.CircuitBreaker[any] {
	if cb, ok := b.byID.Get(key); ok {
		return cb
	}
	cb := circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(0.5, b.cfg.Failures, b.cfg.Window).
		WithSuccessThreshold(1). // one call tries for all
		WithDelay(b.cfg.OpenFor).
		Build()
	if earlier, ok, _ := b.byID.PeekOrAdd(key, cb); ok {
		return earlier
	}
	return cb
}

// do makes one attempt through the breaker of key.
func (b *breakers) do(key string, attempt func() error) error {
	cb := b.get(key)
	if !cb.TryAcquirePermit() {
		wait := max(cb.RemainingDelay(), 100*time.Millisecond)
		return &Error{
			Class: ClassRefused, Code: "circuit_open", RetryAfter: wait,
			Message: fmt.Sprintf("not called: most of the latest calls failed; the next try is let through in %s", wait.Round(100*time.Millisecond)),
		}
	}
	probing := !cb.IsClosed()
	finished := false
	defer func() {
		if !finished { // a panic must not keep the permit of a half-open breaker
			cb.RecordFailure()
		}
	}()
	err := attempt()
	finished = true
	switch verdict(err) {
	case healthy:
		cb.RecordSuccess()
	case failing:
		cb.RecordFailure()
	case unknown:
		if probing { // the permit has to be given back, and nothing was proven
			cb.RecordFailure()
		}
	}
	return err
}

type health int

const (
	healthy health = iota
	failing
	unknown
)

// verdict reads from the outcome of a call whether the peer is well. A peer that refuses a
// request is well; a call that never left, or that its caller gave up, says nothing.
func verdict(err error) health {
	if err == nil {
		return healthy
	}
	var e *Error
	if !errors.As(err, &e) {
		return unknown
	}
	switch e.Class {
	case ClassTimeout, ClassNetwork, Class5xx, Class429:
		return failing
	case Class4xx, ClassAuth, ClassContext, ClassSafety, ClassEmpty, ClassFormat, ClassTooLarge:
		return healthy
	case ClassInvalid:
		if e.Status != 0 {
			return healthy
		}
		return unknown
	case ClassRefused, ClassEgress, ClassSecret, ClassCanceled:
		return unknown
	default:
		return unknown
	}
}
