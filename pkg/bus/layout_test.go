package bus_test

import (
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestLayout(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	var wg sync.WaitGroup
	for range 3 { // all services at once
		wg.Go(func() { connect(t, s, func(c *bus.Config) { c.Partitions, c.MaxBytes = 4, 64<<20 }) })
	}
	wg.Wait()
	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	config := func(name string) jetstream.StreamConfig {
		stream, err := js.Stream(within(t), name)
		require.NoError(t, err)
		cfg := stream.CachedInfo().Config
		require.Equal(t, jetstream.FileStorage, cfg.Storage, name)
		require.Equal(t, jetstream.DefaultPersistMode, cfg.PersistMode, "what is acknowledged is written")
		return cfg
	}
	for p := range 4 {
		cfg := config(protocol.PartitionStream(p))
		require.Equal(t, []string{protocol.PartitionSubjects(p)}, cfg.Subjects)
		require.Equal(t, jetstream.LimitsPolicy, cfg.Retention)
		require.Equal(t, jetstream.DiscardNew, cfg.Discard, "nothing accepted is dropped")
		require.Equal(t, int64(16<<20), cfg.MaxBytes)
		require.Zero(t, cfg.MaxAge)
		require.True(t, cfg.AllowDirect)
		require.False(t, cfg.DenyPurge, "the janitor trims")
	}
	catalog := config(protocol.StreamCatalog)
	require.True(t, catalog.DenyPurge && catalog.DenyDelete, "the catalog is for ever")
	require.Zero(t, catalog.MaxAge)
	require.LessOrEqual(t, catalog.MaxBytes, int64(0))
	require.Equal(t, jetstream.WorkQueuePolicy, config(protocol.StreamCommands).Retention)
	for bucket, ttl := range map[string]time.Duration{protocol.BucketSpecs: 24 * time.Hour, protocol.BucketIdem: 24 * time.Hour} {
		require.Equal(t, ttl, config("KV_"+bucket).MaxAge)
	}
	require.Zero(t, config("OBJ_"+protocol.BucketObjects).MaxAge, "the archive refers to objects")
}

func TestLayoutKeepsItsPartitions(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	connect(t, s, func(c *bus.Config) { c.Partitions = 4 })
	for _, create := range []bool{true, false} {
		for _, partitions := range []int{2, 8} {
			_, err := bus.Connect(within(t), bus.Config{InProcess: s, Partitions: partitions, Replicas: 1, CreateLayout: create})
			require.ErrorIs(t, err, bus.ErrLayout)
			require.ErrorContains(t, err, "made for 4 partitions")
		}
	}
	connect(t, s, func(c *bus.Config) { c.Partitions, c.CreateLayout = 4, false })
}

// TestLayoutGrows: the log of a platform in one process can be made larger after all, and by nobody smaller.
func TestLayoutGrows(t *testing.T) {
	t.Parallel()
	s, err := local.Start(local.Options{Dir: t.TempDir(), Addr: "127.0.0.1", Port: -1})
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	for _, c := range []struct{ asked, want int64 }{{32 << 20, 8 << 20}, {64 << 20, 16 << 20}, {32 << 20, 16 << 20}} {
		connect(t, s, func(cfg *bus.Config) { cfg.Partitions, cfg.MaxBytes = 4, c.asked })
		for p := range 4 {
			stream, err := js.Stream(within(t), protocol.PartitionStream(p))
			require.NoError(t, err)
			require.Equal(t, c.want, stream.CachedInfo().Config.MaxBytes)
			require.Equal(t, jetstream.DiscardNew, stream.CachedInfo().Config.Discard)
			require.Equal(t, "4", stream.CachedInfo().Config.Metadata["agentflow.partitions"])
		}
	}
	connect(t, s, func(cfg *bus.Config) {
		cfg.Partitions, cfg.MaxBytes, cfg.InProcess, cfg.URL = 4, 128<<20, nil, s.ClientURL()
	})
	stream, err := js.Stream(within(t), protocol.PartitionStream(0))
	require.NoError(t, err)
	require.Equal(t, int64(16<<20), stream.CachedInfo().Config.MaxBytes, "a server elsewhere has an administrator")
}

// The tables know commits by their sequence: one of a log that is made anew must not look like one of the log before.
func TestALogMadeAnewBeginsBehindTheLogBefore(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := connect(t, s)
	old := newKey(b)
	require.Equal(t, []uint64{1, 2}, appendAll(t, b, old, requested(), started(1)))
	_, err := b.AppendCatalog(within(t), protocol.CatalogEvent{Type: "tenant_created.v1", Tenant: "acme", Kind: protocol.KindTenant, ID: "acme", CommandID: "c1"}, 0)
	require.NoError(t, err)
	b = connect(t, s)
	seq, err := b.Append(within(t), old, 2, started(2))
	require.NoError(t, err)
	require.EqualValues(t, 3, seq, "what stands goes on")

	js, err := jetstream.New(rawConn(t, s))
	require.NoError(t, err)
	for p := range 2 {
		require.NoError(t, js.DeleteStream(within(t), protocol.PartitionStream(p)))
	}
	b = connect(t, s)
	connect(t, s)
	key := newKey(b)
	seqs := appendAll(t, b, key, requested(), started(1))
	require.Greater(t, seqs[0], uint64(1_000_000))
	records, err := b.Load(within(t), key, 0)
	require.NoError(t, err)
	require.Len(t, records, 2)
}

func TestAnotherMakesTheStreams(t *testing.T) {
	t.Parallel()
	s := start(t, t.TempDir())
	b := connect(t, s, func(c *bus.Config) { c.CreateLayout = false })
	_, err := b.Load(within(t), newKey(b), 0)
	require.Error(t, err)
	require.NotErrorIs(t, err, bus.ErrNotFound, "no stream is not the same as no execution")
	connect(t, s)
	appendAll(t, b, newKey(b), requested())
}

func TestConnect(t *testing.T) {
	t.Parallel()
	_, err := bus.Connect(within(t), bus.Config{URL: "nats://127.0.0.1:1"})
	require.ErrorContains(t, err, "connect to NATS")
	_, err = bus.Connect(within(t), bus.Config{URL: "nats://127.0.0.1:1", NKeyFile: "/does/not/exist"})
	require.ErrorContains(t, err, "NATS_NKEY_FILE")
	_, err = local.Start(local.Options{})
	require.ErrorContains(t, err, "no data folder")
	b := open(t)
	require.NoError(t, b.Ping(t.Context()), "without a deadline of its own")
	b.Close()
	require.Error(t, b.Ping(t.Context()))
	_, err = b.Append(t.Context(), newKey(b), 0, requested())
	require.Error(t, err, "a closed bus does not try for ever")
}

// BenchmarkLayout is the part of a start that waits for NATS: with a fresh folder, and with an old one.
func BenchmarkLayout(b *testing.B) {
	whole := func(c *bus.Config) { c.Partitions, c.MaxBytes = 8, 2<<30 }
	b.Run("fresh", func(b *testing.B) {
		for b.Loop() {
			b.StopTimer()
			s := start(b, b.TempDir())
			b.StartTimer()
			connect(b, s, whole)
		}
	})
	b.Run("old", func(b *testing.B) {
		s := start(b, b.TempDir())
		for b.Loop() {
			connect(b, s, whole)
		}
	})
}
