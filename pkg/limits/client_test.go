package limits

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// limiter answers a client's calls as a test wants.
type limiter struct {
	away  atomic.Bool
	hangs atomic.Bool
	calls atomic.Int64
	grant protocol.Grant
	err   error
}

func (l *limiter) acquire(ctx context.Context, _ protocol.AcquireRequest) (protocol.Grant, error) {
	l.calls.Add(1)
	if l.hangs.Load() {
		<-ctx.Done()
		return protocol.Grant{}, errors.Join(bus.ErrUnavailable, ctx.Err())
	}
	if l.away.Load() {
		return protocol.Grant{}, bus.ErrUnavailable
	}
	return l.grant, l.err
}

func (l *limiter) usage(ctx context.Context, _ protocol.UsageRequest) (protocol.Usage, error) {
	_, err := l.acquire(ctx, protocol.AcquireRequest{})
	return protocol.Usage{}, err
}

func newTestClient(t *testing.T, l *limiter, fail string) (*Client, *observer.ObservedLogs) {
	t.Helper()
	core, logs := observer.New(zap.InfoLevel)
	cfg := Config{Policy: Policy{Fail: fail, WarnInterval: time.Minute}, TimeoutMS: 250}
	c := newClient(calls{acquire: l.acquire, usage: l.usage}, cfg, zap.New(core), prometheus.NewRegistry())
	t.Cleanup(func() { require.NoError(t, c.Close(context.Background())) })
	return c, logs
}

func TestClientFailsOpen(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{grant: protocol.Grant{Granted: true}}
		c, logs := newTestClient(t, l, "open")
		l.away.Store(true)
		r := ask(perSecond)
		r.Behind = []protocol.Want{{Messages: 1}}
		for range 1000 {
			g, err := c.Acquire(t.Context(), r)
			require.NoError(t, err)
			require.Equal(t, protocol.Grant{Granted: true, Behind: 1, Degraded: true}, g)
		}
		require.EqualValues(t, enough, l.calls.Load(), "a limiter that is gone is not called")
		require.Error(t, c.Check(t.Context()))
		require.Equal(t, 1, logs.Len(), "one warning")
		require.InDelta(t, 1000, testutil.ToFloat64(c.metrics.calls.WithLabelValues("away")), 0)

		time.Sleep(61 * time.Second) //nolint:forbidigo // inside synctest
		_, err := c.Acquire(t.Context(), r)
		require.NoError(t, err)
		require.Equal(t, 2, logs.Len(), "one more in the next interval")

		l.away.Store(false)
		time.Sleep(2 * probeEvery) //nolint:forbidigo // inside synctest
		g, err := c.Acquire(t.Context(), r)
		require.NoError(t, err)
		require.False(t, g.Degraded, "it comes back by itself")
		require.NoError(t, c.Check(t.Context()))
		require.Equal(t, "limits are checked again", logs.All()[2].Message)
	})
}

// A limiter that hangs costs the first few callers their bound, and the others nothing.
func TestClientHangingLimiter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{}
		c, _ := newTestClient(t, l, "open")
		l.hangs.Store(true)
		start := time.Now()
		for range enough {
			_, err := c.Acquire(t.Context(), ask(perSecond))
			require.NoError(t, err)
		}
		require.Equal(t, enough*250*time.Millisecond, time.Since(start))
		for range 1000 {
			_, err := c.Acquire(t.Context(), ask(perSecond))
			require.NoError(t, err)
		}
		require.Equal(t, enough*250*time.Millisecond, time.Since(start))
	})
}

func TestClientFailsClosed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{}
		c, _ := newTestClient(t, l, "closed")
		l.away.Store(true)
		for range 10 {
			_, err := c.Acquire(t.Context(), ask(perSecond))
			var refused *protocol.Error
			require.ErrorAs(t, err, &refused)
			require.Equal(t, protocol.CodeUnavailable, refused.Code)
			require.EqualValues(t, 1000, refused.RetryAfterMS)
		}
	})
}

// What the limiter itself says is an answer: it neither shuts the breaker nor is it overruled.
func TestClientPassesAnswersOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for _, code := range []protocol.Code{protocol.CodeInvalid, protocol.CodeUnavailable} {
			l := &limiter{err: &protocol.Error{Code: code}}
			c, logs := newTestClient(t, l, "open")
			for range 10 {
				_, err := c.Acquire(t.Context(), ask(perSecond))
				require.ErrorIs(t, err, &protocol.Error{Code: code})
			}
			require.EqualValues(t, 10, l.calls.Load())
			require.NoError(t, c.Check(t.Context()))
			require.Zero(t, logs.Len())
		}
	})
}

// A caller that gives up says nothing of the limiter.
func TestClientCallerGivesUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{}
		l.hangs.Store(true)
		c, _ := newTestClient(t, l, "open")
		for range 10 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			_, err := c.Acquire(ctx, ask(perSecond))
			cancel()
			require.ErrorIs(t, err, context.DeadlineExceeded)
		}
		require.NoError(t, c.Check(t.Context()))
	})
}
