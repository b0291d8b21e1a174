package daemon

import (
	"context"
	"errors"
	"net/http"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

func TestHealthStatuses(t *testing.T) {
	t.Parallel()
	ok := func(context.Context) error { return nil }
	broken := func(context.Context) error { return errors.New("dial postgres://u:hunter2@db: refused") }
	for _, c := range []struct {
		name               string
		required, optional func(context.Context) error
		status             string
		code               int
	}{
		{"all well", ok, ok, StatusReady, http.StatusOK},
		{"optional fails", ok, broken, StatusDegraded, http.StatusOK},
		{"required fails", broken, ok, StatusNotReady, http.StatusServiceUnavailable},
		{"both fail", broken, broken, StatusNotReady, http.StatusServiceUnavailable},
		{"required panics", func(context.Context) error { panic("oh") }, ok, StatusNotReady, http.StatusServiceUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			h := newHealth(prometheus.NewRegistry())
			h.Register("nats", true, c.required)
			h.Register("redis", false, c.optional)
			h.Note("redis", "the built-in stand-in serves")
			h.Note("nobody", "is not there")
			report := h.Ready(t.Context())
			require.Equal(t, c.status, report.Status)
			require.Equal(t, c.code, report.Code())
			require.Len(t, report.Checks, 2)
			require.Equal(t, "the built-in stand-in serves", report.Checks["redis"].Detail)
			require.True(t, report.Checks["nats"].Required)
			require.NotContains(t, report.Checks["nats"].Error, "hunter2")
			require.Equal(t, c.status == StatusNotReady, report.Checks["nats"].Status == StatusFailed)
			require.InDelta(t, b2f(report.Checks["nats"].Status == StatusOK), testutil.ToFloat64(h.up.WithLabelValues("nats")), 0)
			require.NoError(t, h.wait(t.Context()))
		})
	}
}

func b2f(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// The admin port of a process opens before its service does: until the service's group runs, the process is not ready,
// however few checks there are to fail.
func TestHealthStarts(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	rt.Health.starting.Store(true)
	require.Equal(t, StatusStarting, rt.Health.Ready(t.Context()).Status)
	require.Equal(t, http.StatusServiceUnavailable, rt.Health.Ready(t.Context()).Code())
	outer := rt.Group()
	outer.outer = true
	outer.Add(Part{Name: "service", Run: func(ctx context.Context) error {
		require.Equal(t, StatusStarting, rt.Health.Ready(ctx).Status, "main's own group is not the service")
		g := rt.Group()
		g.Add(Part{Name: "work", Run: func(ctx context.Context) error {
			for rt.Health.starting.Load() {
				runtime.Gosched()
			}
			require.Equal(t, StatusReady, rt.Health.Ready(ctx).Status)
			return nil
		}})
		return g.Run(ctx)
	}})
	require.ErrorIs(t, outer.Run(t.Context()), ErrEnded)
}

func TestHealthDrains(t *testing.T) {
	t.Parallel()
	h := newHealth(prometheus.NewRegistry())
	require.Equal(t, StatusReady, h.Ready(t.Context()).Status)
	h.Drain()
	h.Drain()
	report := h.Ready(t.Context())
	require.Equal(t, StatusDraining, report.Status, "at once, however fresh the last report")
	require.Equal(t, http.StatusServiceUnavailable, report.Code())
	require.True(t, h.within("gateway").Draining(), "one process, one end")
}

func TestHealthRepeatsAFreshReport(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(prometheus.NewRegistry())
		var asked atomic.Int32
		h.Register("nats", true, func(context.Context) error { asked.Add(1); return nil })
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() { h.Ready(t.Context()) })
		}
		wg.Wait()
		require.EqualValues(t, 1, asked.Load())
		time.Sleep(reportAge - time.Millisecond) //nolint:forbidigo // synthetic time
		h.Ready(t.Context())
		require.EqualValues(t, 1, asked.Load())
		time.Sleep(time.Millisecond) //nolint:forbidigo // synthetic time
		h.Ready(t.Context())
		require.EqualValues(t, 2, asked.Load())
	})
}

func TestHealthBoundsSlowChecks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := newHealth(prometheus.NewRegistry())
		release := make(chan struct{})
		var started atomic.Int32
		h.Register("stuck", true, func(context.Context) error { // ignores its context
			started.Add(1)
			<-release
			return nil
		})
		h.Register("slow", false, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		begun := time.Now()
		report := h.Ready(t.Context())
		require.Equal(t, checkTimeout, time.Since(begun), "side by side")
		require.Contains(t, report.Checks["stuck"].Error, "no answer within 1s")
		require.Equal(t, StatusFailed, report.Checks["slow"].Status)

		report = h.Ready(t.Context())
		require.Contains(t, report.Checks["stuck"].Error, "has not come back")
		require.EqualValues(t, 1, started.Load(), "a stuck check is not started again")

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.Error(t, h.wait(ctx))

		close(release)
		synctest.Wait()
		time.Sleep(reportAge) //nolint:forbidigo // synthetic time
		require.Equal(t, StatusOK, h.Ready(t.Context()).Checks["stuck"].Status)
		require.NoError(t, h.wait(t.Context()))
	})
}

func TestHealthOutlivesItsProber(t *testing.T) {
	t.Parallel()
	h := newHealth(prometheus.NewRegistry())
	h.Register("nats", true, func(ctx context.Context) error { return ctx.Err() })
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	require.Equal(t, StatusReady, h.Ready(gone).Status)
}

func TestHealthNames(t *testing.T) {
	t.Parallel()
	h := newHealth(prometheus.NewRegistry())
	ok := func(context.Context) error { return nil }
	h.within("gateway").Register("nats", true, ok)
	h.within("catalog").Register("nats", true, ok)
	require.Contains(t, h.Ready(t.Context()).Checks, "gateway/nats")
	require.Contains(t, h.Ready(t.Context()).Checks, "catalog/nats")
	require.Panics(t, func() { h.Register("gateway/nats", true, ok) })
}
