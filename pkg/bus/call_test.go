package bus_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/trace"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

type question struct {
	Text string `json:"text"`
}

var (
	echo   = protocol.Call[question, question]{Subject: "echo.say"}
	listed = protocol.Call[question, []string]{Subject: "echo.list"}
)

func serve(t *testing.T, b *bus.Bus, concurrency int) *bus.Service {
	t.Helper()
	s, err := b.Serve("echo", "1.0.0", concurrency)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Stop()) })
	return s
}

func TestCalls(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := serve(t, b, 4)
	traceID := make(chan trace.TraceID, 1)
	require.NoError(t, bus.Handle(s, echo, func(ctx context.Context, q question) (question, error) {
		switch q.Text {
		case "refuse":
			return question{}, errors.Join(errors.New("context"), &protocol.Error{Code: protocol.CodeNotFound, Message: "no such", Field: "text", RetryAfterMS: 7, Details: []string{"x"}})
		case "break":
			return question{}, errors.New("password is hunter2")
		case "panic":
			panic("hunter2")
		case "away":
			return question{}, bus.ErrUnavailable
		case "trace":
			traceID <- trace.SpanContextFromContext(ctx).TraceID()
		}
		return q, nil
	}))
	require.NoError(t, bus.Handle(s, listed, func(_ context.Context, q question) ([]string, error) {
		if q.Text == "" {
			return nil, nil
		}
		return []string{q.Text}, nil
	}))

	got, err := bus.Request(within(t), b, echo, question{Text: "hello"})
	require.NoError(t, err)
	require.Equal(t, "hello", got.Text)

	_, err = bus.Request(within(t), b, echo, question{Text: "refuse"})
	var refused *protocol.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, &protocol.Error{Code: protocol.CodeNotFound, Message: "no such", Field: "text", RetryAfterMS: 7, Details: []any{"x"}}, refused)

	for _, text := range []string{"break", "panic"} {
		_, err = bus.Request(within(t), b, echo, question{Text: text})
		require.Equal(t, protocol.CodeInternal, protocol.CodeOf(err))
		require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeInternal})
		require.NotContains(t, err.Error(), "hunter2")
	}
	_, err = bus.Request(within(t), b, echo, question{Text: "away"})
	require.Equal(t, protocol.CodeUnavailable, protocol.CodeOf(err))

	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{7}, SpanID: trace.SpanID{2}, TraceFlags: trace.FlagsSampled})
	_, err = bus.Request(trace.ContextWithSpanContext(within(t), span), b, echo, question{Text: "trace"})
	require.NoError(t, err)
	require.Equal(t, span.TraceID(), <-traceID)

	list, err := bus.Request(within(t), b, listed, question{})
	require.NoError(t, err, "nothing is an answer")
	require.Empty(t, list)
	list, err = bus.Request(within(t), b, listed, question{Text: "x"})
	require.NoError(t, err)
	require.Equal(t, []string{"x"}, list)

	_, err = bus.Request(within(t), b, protocol.Call[string, question](echo), "no object")
	require.Equal(t, protocol.CodeMalformed, protocol.CodeOf(err))
}

func TestNobodyAnswers(t *testing.T) {
	t.Parallel()
	b := open(t)
	_, err := bus.Request(within(t), b, echo, question{})
	require.ErrorIs(t, err, bus.ErrUnavailable)
	require.ErrorIs(t, err, nats.ErrNoResponders, "at once, not after a timeout")

	s := serve(t, b, 1)
	hold := make(chan struct{})
	require.NoError(t, bus.Handle(s, echo, func(context.Context, question) (question, error) { <-hold; return question{}, nil }))
	ctx, cancel := context.WithTimeout(within(t), 50*time.Millisecond)
	defer cancel()
	_, err = bus.Request(ctx, b, echo, question{})
	require.ErrorIs(t, err, bus.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	close(hold)
}

func TestCallsRunBesideEachOtherUpToTheLimit(t *testing.T) {
	t.Parallel()
	b := open(t)
	s := serve(t, b, 3)
	var running, most atomic.Int32
	together := make(chan struct{})
	require.NoError(t, bus.Handle(s, echo, func(ctx context.Context, q question) (question, error) {
		n := running.Add(1)
		defer running.Add(-1)
		if n > most.Load() {
			most.Store(n)
		}
		if n == 3 {
			close(together)
		}
		select {
		case <-together: // all three at once, or never
		case <-ctx.Done():
		}
		return q, nil
	}))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			_, err := bus.Request(within(t), b, echo, question{})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.Equal(t, int32(3), most.Load())
}

func TestStopAnswersWhatHasArrived(t *testing.T) {
	t.Parallel()
	server := start(t, t.TempDir())
	b, client := connect(t, server), connect(t, server)
	s, err := b.Serve("echo", "1.0.0", 1)
	require.NoError(t, err)
	begun := make(chan struct{}, 16)
	goOn := make(chan struct{})
	require.NoError(t, bus.Handle(s, echo, func(_ context.Context, q question) (question, error) {
		begun <- struct{}{}
		<-goOn
		return q, nil
	}))
	const calls = 8
	answers := make(chan error, calls)
	for range calls {
		go func() {
			_, err := bus.Request(within(t), client, echo, question{Text: "x"})
			answers <- err
		}()
	}
	<-begun
	require.NoError(t, client.Ping(within(t))) // what the client has said is at the server
	require.Eventually(t, func() bool { return server.NumSubscriptions() > 0 && b.Ping(within(t)) == nil }, patience, time.Millisecond)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	close(goOn)
	require.NoError(t, <-stopped)
	answered := 0
	for range calls {
		err := <-answers
		if err == nil {
			answered++
			continue
		}
		require.ErrorIs(t, err, nats.ErrNoResponders, "a call that came too late is refused at once")
	}
	require.GreaterOrEqual(t, answered, 1)
	_, err = bus.Request(within(t), client, echo, question{})
	require.ErrorIs(t, err, bus.ErrUnavailable)
}

func TestExpectAndReply(t *testing.T) {
	t.Parallel()
	server := start(t, t.TempDir())
	b, other := connect(t, server), connect(t, server)
	subject, reply, release, err := b.Expect()
	require.NoError(t, err)
	second, reply2, release2, err := b.Expect()
	require.NoError(t, err)
	require.NotEqual(t, subject, second)
	require.NoError(t, b.Ping(within(t)))
	require.NoError(t, other.Reply(second, []byte("two")))
	require.NoError(t, other.Reply(subject, []byte("one")))
	require.NoError(t, other.Reply(subject, []byte("once more")), "a second answer is nobody's")
	require.Equal(t, "two", string(<-reply2))
	require.Equal(t, "one", string(<-reply))
	release()
	release2()
	require.NoError(t, other.Reply(subject, []byte("too late")))
	third, reply3, release3, err := b.Expect()
	require.NoError(t, err)
	defer release3()
	require.NoError(t, other.Reply(third, []byte("three")))
	require.Equal(t, "three", string(<-reply3))
	require.Empty(t, reply)
}

func TestSignalsAndProgress(t *testing.T) {
	t.Parallel()
	b := open(t)
	heard := make(chan protocol.ExecutionID, 1)
	stop, err := b.Signals(func(id protocol.ExecutionID) { heard <- id })
	require.NoError(t, err)
	defer stop()
	require.NoError(t, b.Signal("exec_1"))
	require.Equal(t, protocol.ExecutionID("exec_1"), <-heard)

	ctx, cancel := context.WithCancel(within(t))
	bodies := make(chan string, 100)
	done := make(chan error, 1)
	go func() {
		done <- b.FollowProgress(ctx, "acme", "exec_1", func(body []byte) { bodies <- string(body) })
	}()
	var got string
	require.Eventually(t, func() bool { // it is not known when the follower has begun
		require.NoError(t, b.Progress("acme", "exec_1", []byte("mine")))
		require.NoError(t, b.Progress("other", "exec_1", []byte("not mine")))
		select {
		case got = <-bodies:
			return true
		default:
			return false
		}
	}, patience, time.Millisecond)
	require.Equal(t, "mine", got)
	cancel()
	require.ErrorIs(t, <-done, context.Canceled)
	for len(bodies) > 0 {
		require.Equal(t, "mine", <-bodies)
	}
}

func TestReplies(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "{}", "[]", `{"error":null}`, `{"ok":3}`} {
		_, err := bus.DecodeReply[question]([]byte(body))
		require.Error(t, err, body)
	}
	body, err := bus.EncodeReply(question{Text: "x"}, nil)
	require.NoError(t, err)
	require.Equal(t, `{"ok":{"text":"x"}}`, string(body))
	_, err = bus.EncodeReply(make(chan int), nil)
	require.Error(t, err)
	body, err = bus.EncodeReply(question{}, errors.New(strings.Repeat("secret", 3)))
	require.NoError(t, err)
	require.NotContains(t, string(body), "secret")
}

func BenchmarkCall(b *testing.B) {
	conn := open(b)
	s, err := conn.Serve("echo", "1.0.0", 64)
	require.NoError(b, err)
	require.NoError(b, bus.Handle(s, echo, func(_ context.Context, q question) (question, error) { return q, nil }))
	b.SetParallelism(32)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := bus.Request(context.Background(), conn, echo, question{Text: "x"}); err != nil {
				b.Error(err)
				return
			}
		}
	})
	require.NoError(b, s.Stop())
}
