package source

import (
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func failWith(class Class) func() error {
	return func() error { return &Error{Class: class, Status: 400} }
}

func succeed() error { return nil }

func TestBreakerOpensAndRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(BreakerConfig{Failures: 4, Window: 30 * time.Second, OpenFor: 5 * time.Second})
		for range 4 {
			require.Equal(t, Class5xx, ClassOf(b.do("k", failWith(Class5xx))))
		}
		called := false
		err := b.do("k", func() error { called = true; return nil })
		require.Equal(t, ClassRefused, ClassOf(err))
		require.False(t, called)
		var e *Error
		require.ErrorAs(t, err, &e)
		require.True(t, e.Retryable())
		require.InDelta(t, 5*time.Second, e.RetryAfter, float64(time.Second))
		require.NoError(t, b.do("other", succeed), "another key has a breaker of its own")

		time.Sleep(5 * time.Second) //nolint:forbidigo // in a bubble
		require.Equal(t, ClassTimeout, ClassOf(b.do("k", failWith(ClassTimeout))), "one call is let through to try")
		require.Equal(t, ClassRefused, ClassOf(b.do("k", succeed)), "and its failure closes the door again")
		time.Sleep(5 * time.Second) //nolint:forbidigo // in a bubble
		require.NoError(t, b.do("k", succeed))
		require.NoError(t, b.do("k", succeed))
	})
}

func TestBreakerIgnoresWhatIsNotThePeersFault(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(BreakerConfig{Failures: 2})
		for _, class := range []Class{
			Class4xx, ClassAuth, ClassInvalid, ClassContext, ClassSafety, ClassEmpty, ClassFormat, ClassTooLarge,
			ClassEgress, ClassSecret, ClassCanceled,
		} {
			for range 20 {
				require.Equal(t, class, ClassOf(b.do("k", failWith(class))))
			}
		}
		for _, class := range []Class{Class429, ClassNetwork, ClassTimeout, Class5xx} {
			for range 2 {
				_ = b.do(string(class), failWith(class))
			}
			require.Equal(t, ClassRefused, ClassOf(b.do(string(class), succeed)), class)
		}
	})
}

func TestBreakerGivesThePermitBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBreakers(BreakerConfig{Failures: 1, OpenFor: time.Second})
		_ = b.do("k", failWith(Class5xx))
		time.Sleep(time.Second) //nolint:forbidigo // in a bubble
		require.Equal(t, ClassCanceled, ClassOf(b.do("k", failWith(ClassCanceled))))
		require.Equal(t, ClassRefused, ClassOf(b.do("k", succeed)), "a call that was given up proved nothing")
		time.Sleep(time.Second) //nolint:forbidigo // in a bubble
		require.Panics(t, func() { _ = b.do("k", func() error { panic("x") }) })
		time.Sleep(time.Second) //nolint:forbidigo // in a bubble
		require.NoError(t, b.do("k", succeed), "the permit of the call that panicked came back")
	})
}

func TestOneTenantsFailuresAreItsOwn(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	base := startServer(t, func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(503)
		}
	})
	b := newBench(t, nil, func(c *Config) { c.Breaker = BreakerConfig{Failures: 3, OpenFor: time.Hour} })
	call := func(tenant, id string) error {
		src := apiSource(base)
		src.ID = id
		_, err := b.Call(t.Context(), Caller{Tenant: tenant}, src, HTTPRequest{})
		return err
	}
	for range 3 {
		require.Equal(t, Class5xx, ClassOf(call("a", "s")))
	}
	require.Equal(t, ClassRefused, ClassOf(call("a", "s")))
	down.Store(false)
	require.Equal(t, ClassRefused, ClassOf(call("a", "s")))
	require.NoError(t, call("a", "other"))
	require.NoError(t, call("b", "s"))
}
