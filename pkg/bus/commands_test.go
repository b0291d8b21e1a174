package bus_test

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

func command(verb protocol.Verb) protocol.Command {
	return protocol.Command{
		ID: typeid.New("cmd"), Tenant: "acme", Verb: verb, Actor: "key_1",
		At: protocol.At(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Data: json.RawMessage(`{"id":"x"}`),
	}
}

// handle runs a handler of commands until the test ends, and waits for it.
func handle(t *testing.T, b *bus.Bus, concurrency int, fn func(*bus.CommandMessage)) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.Commands(ctx, concurrency, fn) }()
	return sync.OnceFunc(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

func answer(t *testing.T, c *bus.CommandMessage, v question, err error) {
	t.Helper()
	body, err := bus.EncodeReply(v, err)
	require.NoError(t, err)
	require.NoError(t, c.Done(body))
}

func TestCommands(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b, client := connect(t, s), connect(t, s)
	deliveries := make(chan int, 10)
	stop := handle(t, b, 2, func(c *bus.CommandMessage) {
		deliveries <- c.Delivered
		require.Equal(t, protocol.TenantID("acme"), c.Tenant)
		require.False(t, c.Stored.IsZero())
		switch {
		case c.Verb == protocol.VerbSourceDelete:
			answer(t, c, question{}, &protocol.Error{Code: protocol.CodeConflict, Message: "in use"})
		case c.Verb == protocol.VerbSourceUpdate && c.Delivered == 1:
			require.NoError(t, c.Again(time.Millisecond))
		default:
			answer(t, c, question{Text: c.ID}, nil)
		}
	})
	defer stop()

	cmd := command(protocol.VerbSourceCreate)
	got, err := bus.SendCommand[question](within(t), client, cmd)
	require.NoError(t, err)
	require.Equal(t, cmd.ID, got.Text)
	require.Equal(t, 1, <-deliveries)

	_, err = bus.SendCommand[question](within(t), client, command(protocol.VerbSourceDelete))
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeConflict})
	require.Equal(t, 1, <-deliveries)

	cmd = command(protocol.VerbSourceUpdate)
	got, err = bus.SendCommand[question](within(t), client, cmd)
	require.NoError(t, err, "handed back, it comes again")
	require.Equal(t, cmd.ID, got.Text)
	require.Equal(t, []int{1, 2}, []int{<-deliveries, <-deliveries})
	stop()

	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	stream, err := js.Stream(within(t), protocol.StreamCommands)
	require.NoError(t, err)
	require.Eventually(t, func() bool { // acknowledgements are not waited for
		info, err := stream.Info(within(t))
		require.NoError(t, err)
		return info.State.Msgs == 0
	}, patience, time.Millisecond, "what is done is gone")
}

func TestCommandsWaitForTheirHandler(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b, client := connect(t, s), connect(t, s)
	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	cmd := command(protocol.VerbTenantCreate)
	for wait, stored := 50*time.Millisecond, uint64(0); stored == 0; wait *= 2 { // a slow machine may not have sent it yet
		ctx, cancel := context.WithTimeout(within(t), wait)
		_, err := bus.SendCommand[question](ctx, client, cmd)
		cancel()
		require.ErrorIs(t, err, bus.ErrUnavailable, "nobody is there")
		stream, err := js.Stream(within(t), protocol.StreamCommands)
		require.NoError(t, err)
		stored = stream.CachedInfo().State.Msgs
	}

	seen := make(chan string, 2)
	stop := handle(t, b, 1, func(c *bus.CommandMessage) {
		seen <- c.ID
		answer(t, c, question{}, nil)
	})
	defer stop()
	require.Equal(t, cmd.ID, <-seen, "it was stored, and is carried out")
}

func TestCommandsInHandAreFinished(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b, client := connect(t, s), connect(t, s)
	begun, goOn := make(chan struct{}), make(chan struct{})
	stop := handle(t, b, 2, func(c *bus.CommandMessage) {
		close(begun)
		<-goOn
		answer(t, c, question{Text: "done"}, nil)
	})
	reply := make(chan error, 1)
	go func() {
		got, err := bus.SendCommand[question](within(t), client, command(protocol.VerbKeyCreate))
		if err == nil && got.Text != "done" {
			err = errors.New("another answer: " + got.Text)
		}
		reply <- err
	}()
	<-begun
	stopped := make(chan struct{})
	go func() { stop(); close(stopped) }()
	close(goOn)
	<-stopped
	require.NoError(t, <-reply)
}

func TestUnreadableCommandsAreDropped(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := connect(t, s)
	nc := rawConn(t, s)
	_, err := nc.Request(protocol.CommandSubject("acme", protocol.VerbKeyCreate), []byte("no JSON"), patience)
	require.NoError(t, err)
	seen := make(chan string, 2)
	stop := handle(t, b, 1, func(c *bus.CommandMessage) {
		seen <- c.ID
		answer(t, c, question{}, nil)
	})
	defer stop()
	cmd := command(protocol.VerbKeyCreate)
	_, err = bus.SendCommand[question](within(t), b, cmd)
	require.NoError(t, err)
	require.Equal(t, cmd.ID, <-seen)
	require.Empty(t, seen)
}

func TestCatalogLog(t *testing.T) {
	t.Parallel()
	b := open(t)
	event := func(id, cmd string) protocol.CatalogEvent {
		return protocol.CatalogEvent{Type: "source_created.v1", Tenant: "acme", Kind: protocol.KindSource, ID: id, CommandID: cmd, At: command("").At, Document: json.RawMessage(`{}`)}
	}
	_, _, err := b.LastCatalog(within(t), "acme", protocol.KindSource, "a b")
	require.ErrorIs(t, err, bus.ErrNotFound)
	seq, err := b.AppendCatalog(within(t), event("a b", "c1"), 0)
	require.NoError(t, err)
	again, err := b.AppendCatalog(within(t), event("a b", "c1"), 0)
	require.NoError(t, err)
	require.Equal(t, seq, again)
	_, err = b.AppendCatalog(within(t), event("a b", "c2"), 0)
	require.ErrorIs(t, err, bus.ErrConflict)

	ctx, cancel := context.WithCancel(within(t))
	seen := make(chan string, 10)
	ready := make(chan struct{})
	done := make(chan error, 1)
	go func() {
		done <- b.FollowCatalog(ctx, []string{protocol.CatalogFilter("", protocol.KindSource)},
			func(e protocol.CatalogEvent, _ uint64) { seen <- e.ID + "/" + e.CommandID }, func() { close(ready) })
	}()
	<-ready
	_, err = b.AppendCatalog(within(t), event("a b", "c3"), seq)
	require.NoError(t, err)
	require.Equal(t, "a b/c1", <-seen)
	require.Equal(t, "a b/c3", <-seen)
	last, _, err := b.LastCatalog(within(t), "acme", protocol.KindSource, "a b")
	require.NoError(t, err)
	require.Equal(t, "c3", last.CommandID)
	cancel()
	require.NoError(t, <-done)
}
