package bus_test

import (
	"context"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/leaktest"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

func TestMain(m *testing.M) {
	leaktest.VerifyTestMain(m)
}

// patience bounds every wait of these tests; nothing should ever need it.
const patience = 30 * time.Second

func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func start(t testing.TB, dir string) *local.Server {
	t.Helper()
	s, err := local.Start(local.Options{Dir: dir})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

func connect(t testing.TB, s nats.InProcessConnProvider, change ...func(*bus.Config)) *bus.Bus {
	t.Helper()
	cfg := bus.Config{InProcess: s, Partitions: 2, Replicas: 1, MaxBytes: 64 << 20, CreateLayout: true, Name: t.Name()}
	for _, c := range change {
		c(&cfg)
	}
	b, err := bus.Connect(within(t), cfg)
	require.NoError(t, err)
	t.Cleanup(b.Close)
	return b
}

// open is a bus on a server of its own.
func open(t testing.TB, change ...func(*bus.Config)) *bus.Bus {
	t.Helper()
	return connect(t, start(t, t.TempDir()), change...)
}

func newKey(b *bus.Bus) protocol.ExecutionKey {
	return b.Key("acme", protocol.ExecutionID(typeid.New("exec")))
}

func commitOf(events ...protocol.Event) protocol.Commit {
	c := protocol.Commit{ID: typeid.New("cmt")}
	for i, e := range events {
		c.Events = append(c.Events, protocol.Stamped{At: protocol.At(time.Date(2026, 1, 2, 3, 4, 5+i, 0, time.UTC)), Event: e})
	}
	return c
}

func requested() protocol.Commit {
	return commitOf(protocol.Requested{SpecHash: "h", Input: protocol.RawObject([]byte(`{"user_input":"hi"}`))})
}

func started(delivery int) protocol.Commit {
	return commitOf(protocol.Started{Executor: "x", Delivery: delivery})
}

// appendAll appends one commit after another and returns their sequences.
func appendAll(t testing.TB, b *bus.Bus, key protocol.ExecutionKey, commits ...protocol.Commit) []uint64 {
	t.Helper()
	var seqs []uint64
	after := uint64(0)
	for _, c := range commits {
		seq, err := b.Append(within(t), key, after, c)
		require.NoError(t, err)
		seqs = append(seqs, seq)
		after = seq
	}
	return seqs
}

func ids(records []protocol.Record) []string {
	out := make([]string, len(records))
	for i, r := range records {
		out[i] = r.ID
	}
	return out
}
