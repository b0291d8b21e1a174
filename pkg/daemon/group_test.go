package daemon

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
)

// journal notes what happened, in order.
type journal struct {
	mu      sync.Mutex
	entries []string
}

func (j *journal) note(entry string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.entries = append(j.entries, entry)
}

func (j *journal) door(name string) func(context.Context) error {
	return func(context.Context) error {
		j.note(name + " closed")
		return nil
	}
}

func (j *journal) worker(name string) Part {
	return Part{Name: name, Run: func(ctx context.Context) error {
		<-ctx.Done()
		j.note(name + " ended")
		return ctx.Err()
	}}
}

func TestGroupStopsInReverse(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	var j journal
	ctx, cancel := context.WithCancel(t.Context())
	g := rt.Group()
	defer g.Close(ctx)
	g.Door("nats", j.door("nats"))
	g.Door("postgres", j.door("postgres"))
	g.Add(j.worker("projector"))
	stopping := make(chan struct{})
	g.Add(Part{
		Name: "http",
		Run: func(ctx context.Context) error {
			cancel()
			<-stopping
			require.NoError(t, ctx.Err(), "work in hand is not cut off while Stop drains it")
			j.note("http ended")
			return http.ErrServerClosed
		},
		Stop: func(ctx context.Context) error {
			_, bounded := ctx.Deadline()
			require.True(t, bounded)
			j.note("http stops")
			close(stopping)
			return nil
		},
	})
	require.NoError(t, g.Run(ctx))
	require.Equal(t, []string{"http stops", "http ended", "projector ended", "postgres closed", "nats closed"}, j.entries)
	require.True(t, rt.Health.Draining())
}

func TestGroupEndsWithItsFirstPart(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, c := range []struct {
		name string
		run  func(context.Context) error
		want error
	}{
		{"error", func(context.Context) error { return boom }, boom},
		{"nothing", func(context.Context) error { return nil }, ErrEnded},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rt, _ := start(t, quiet())
			var j journal
			g := rt.Group()
			g.Door("nats", j.door("nats"))
			g.Add(j.worker("projector"))
			g.Add(Part{Name: "intake", Run: c.run})
			err := g.Run(t.Context())
			require.ErrorIs(t, err, c.want)
			require.ErrorContains(t, err, "intake: ")
			require.Equal(t, []string{"projector ended", "nats closed"}, j.entries)
		})
	}
}

func TestGroupTurnsPanicsIntoErrors(t *testing.T) {
	t.Parallel()
	rt, out := start(t, quiet())
	var j journal
	g := rt.Group()
	g.Door("nats", func(context.Context) error { panic("while closing") })
	g.Door("redis", j.door("redis"))
	g.Add(Part{Name: "worker", Run: func(context.Context) error { panic(errTest) }})
	err := g.Run(WithScope(t.Context(), Scope{Execution: "exec_1"}))
	require.ErrorIs(t, err, errTest)
	var panicked *PanicError
	require.ErrorAs(t, err, &panicked)
	require.Contains(t, string(panicked.Stack), "group_test.go")
	require.ErrorContains(t, err, "stop nats: panic: while closing")
	require.Equal(t, []string{"redis closed"}, j.entries)
	require.Equal(t, "exec_1", out.find(t, "panic")["execution_id"])
	require.Contains(t, out.find(t, "panic")["stack"], "group_test.go")
	require.InDelta(t, 2, testutil.ToFloat64(rt.panics), 0)
}

var errTest = errors.New("test error")

func TestGroupReportsEveryFailureToStop(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	g := rt.Group()
	g.Door("nats", func(context.Context) error { return errTest })
	g.Add(Part{Name: "worker", Run: func(ctx context.Context) error {
		<-ctx.Done()
		return errors.New("could not save")
	}})
	err := g.Run(ctx)
	require.ErrorContains(t, err, "stop worker: could not save")
	require.ErrorContains(t, err, "stop nats: test error")
}

func TestGroupLeavesBehindWhatDoesNotStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := quiet()
		c.ShutdownTimeout = 3 * time.Second
		rt, _ := start(t, c)
		var j journal
		release := make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g := rt.Group()
		g.Door("nats", j.door("nats"))
		g.Door("deaf", func(context.Context) error { <-release; return nil })
		g.Add(Part{Name: "stuck", Run: func(context.Context) error { <-release; return nil }})
		g.Add(Part{
			Name: "slow",
			Run: func(ctx context.Context) error {
				<-ctx.Done()
				j.note("slow cut off")
				return nil
			},
			Stop: func(ctx context.Context) error { // drains until the deadline, in vain
				<-ctx.Done()
				return ctx.Err()
			},
		})
		begun := time.Now()
		err := g.Run(ctx)
		require.ErrorIs(t, err, ErrTooSlow)
		require.ErrorContains(t, err, "stop slow: context deadline exceeded")
		require.ErrorContains(t, err, "stop stuck: did not stop in time")
		require.ErrorContains(t, err, "stop deaf: did not stop in time")
		require.Equal(t, []string{"slow cut off", "nats closed"}, j.entries, "the doors behind close all the same")
		require.LessOrEqual(t, time.Since(begun), c.ShutdownTimeout+doorTime)
		close(release)
		synctest.Wait()
	})
}

func TestGroupClosesDoorsAfterAFailedStart(t *testing.T) {
	t.Parallel()
	rt, out := start(t, quiet())
	var j journal
	g := rt.Group()
	g.Door("nats", j.door("nats"))
	g.Door("postgres", func(context.Context) error { return errTest })
	g.Add(j.worker("never started"))
	g.Close(t.Context())
	g.Close(t.Context())
	require.Equal(t, []string{"nats closed"}, j.entries)
	require.Contains(t, out.find(t, "closing after a failed start")["error"], "stop postgres: test error")
	require.Panics(t, func() { g.Door("late", j.door("late")) })
	require.Panics(t, func() { rt.Group().Add(Part{Name: "idle"}) })
}
