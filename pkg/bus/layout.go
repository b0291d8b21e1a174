package bus

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Lifetimes of what the buckets keep.
const (
	specTTL = 24 * time.Hour // since its last use: users of a spec put it again
	idemTTL = 24 * time.Hour
)

// layoutAtOnce is how many streams are made at a time: each one waits for the disk.
const layoutAtOnce = 8

// createLayout makes every stream and bucket that does not exist. Creating one that exists with
// the same configuration changes nothing, so all services may do it at once.
func (b *Bus) createLayout(ctx context.Context) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		errs  []error
		slots = make(chan struct{}, layoutAtOnce)
	)
	create := func(what string, fn func() error) {
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := patiently(ctx, fn); err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("create %s: %w", what, err))
				mu.Unlock()
			}
		})
	}
	var first uint64
	if err := patiently(ctx, func() (err error) {
		first, err = b.firstSequence(ctx)
		return err
	}); err != nil {
		return err
	}
	for _, cfg := range b.streamConfigs(first) {
		create("stream "+cfg.Name, func() error { return b.createStream(ctx, cfg) })
	}
	for _, cfg := range []jetstream.KeyValueConfig{
		{Bucket: protocol.BucketSpecs, TTL: specTTL, History: 1, Replicas: b.cfg.Replicas, Compression: true, MaxValueSize: 2 << 20},
		{Bucket: protocol.BucketIdem, TTL: idemTTL, History: 1, Replicas: b.cfg.Replicas, MaxValueSize: 4 << 10},
	} {
		create("bucket "+cfg.Bucket, func() error {
			kv, err := b.js.CreateOrUpdateKeyValue(ctx, cfg)
			if err != nil {
				return err
			}
			b.mu.Lock()
			b.kvs[cfg.Bucket] = kv
			b.mu.Unlock()
			return nil
		})
	}
	create("bucket "+protocol.BucketObjects, func() error {
		obj, err := b.js.CreateOrUpdateObjectStore(ctx, jetstream.ObjectStoreConfig{Bucket: protocol.BucketObjects, Replicas: b.cfg.Replicas})
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.objects = obj
		b.mu.Unlock()
		return nil
	})
	wg.Wait()
	return errors.Join(errs...)
}

// layoutTries bounds how often one part of the layout is asked for; each try waits 5 s for its answer.
const layoutTries = 10

// patiently asks again when no answer came in time: a cluster that has just started elects leaders, and
// making a stream of three copies takes several of them. Asking twice for the same makes one.
func patiently(ctx context.Context, fn func() error) error {
	for try := 1; ; try++ {
		err := fn()
		var api *jetstream.APIError
		slow := errors.Is(err, context.DeadlineExceeded) || errors.Is(err, nats.ErrTimeout) || errors.Is(err, nats.ErrNoResponders) ||
			errors.As(err, &api) && api.Code == http.StatusServiceUnavailable
		if !slow || try == layoutTries || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

func (b *Bus) createStream(ctx context.Context, cfg jetstream.StreamConfig) error {
	s, err := b.js.CreateStream(ctx, cfg)
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		s, err = b.js.Stream(ctx, cfg.Name)
	}
	if err != nil {
		return err
	}
	if err := b.checkPartitions(s); err != nil {
		return err
	}
	if s, err = b.enlarge(ctx, s, cfg.MaxBytes); err != nil {
		return err
	}
	b.mu.Lock()
	b.streams[cfg.Name] = s
	b.mu.Unlock()
	return nil
}

// enlarge gives a stream that was made earlier the room it is to have now. All other settings stand, and so does more
// room. Only where the server is part of this process: elsewhere several services name a size, and none of them may
// change what the log keeps; its administrator does.
func (b *Bus) enlarge(ctx context.Context, s jetstream.Stream, maxBytes int64) (jetstream.Stream, error) {
	cfg := s.CachedInfo().Config
	if b.cfg.InProcess == nil || cfg.MaxBytes <= 0 || cfg.MaxBytes >= maxBytes {
		return s, nil
	}
	cfg.MaxBytes = maxBytes
	return b.js.UpdateStream(ctx, cfg)
}

// metaPartitions says in each partition's stream of how many it is one. Started with another
// number a service would look for executions where they are not.
const metaPartitions = "agentflow.partitions"

func (b *Bus) checkPartitions(s jetstream.Stream) error {
	made := s.CachedInfo().Config.Metadata[metaPartitions]
	if made == "" || made == strconv.Itoa(b.cfg.Partitions) {
		return nil
	}
	return fmt.Errorf("%w: %s was made for %s partitions, not %d", ErrLayout, s.CachedInfo().Config.Name, made, b.cfg.Partitions)
}

// checkLayout does so where somebody else makes the streams, if they are there already.
func (b *Bus) checkLayout(ctx context.Context) error {
	s, err := b.js.Stream(ctx, protocol.PartitionStream(0))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the streams: %w", err)
	}
	return b.checkPartitions(s)
}

// firstSequence is where partitions begin that do not exist. Where the catalog has events they did exist once, and are lost: the
// tables tell commits apart by their sequence, and would take new ones for those that they have. Microseconds run ahead of any log.
func (b *Bus) firstSequence(ctx context.Context) (uint64, error) {
	s, err := b.js.Stream(ctx, protocol.StreamCatalog)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("look at the streams: %w", err)
	case s.CachedInfo().State.LastSeq == 0:
		return 0, nil
	}
	return uint64(max(0, time.Now().UnixMicro())), nil
}

// streamConfigs are all streams; first is the first sequence of partitions, 0 for the usual one.
func (b *Bus) streamConfigs(first uint64) []jetstream.StreamConfig {
	cfgs := []jetstream.StreamConfig{
		{
			Name: protocol.StreamCommands, Subjects: []string{protocol.CommandSubjects}, Retention: jetstream.WorkQueuePolicy,
			Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas, MaxAge: time.Hour, Duplicates: 2 * time.Minute,
		},
		{
			Name: protocol.StreamCatalog, Subjects: []string{protocol.CatalogSubjects}, Retention: jetstream.LimitsPolicy,
			Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas, AllowDirect: true, DenyDelete: true, DenyPurge: true,
			Duplicates: 2 * time.Minute,
		},
	}
	for p := range b.cfg.Partitions {
		cfgs = append(cfgs, jetstream.StreamConfig{
			Name: protocol.PartitionStream(p), Subjects: []string{protocol.PartitionSubjects(p)}, Retention: jetstream.LimitsPolicy,
			Storage: jetstream.FileStorage, Replicas: b.cfg.Replicas, AllowDirect: true,
			MaxBytes: b.cfg.MaxBytes / int64(b.cfg.Partitions), Discard: jetstream.DiscardNew, FirstSeq: first,
			// The fence makes every commit idempotent; the server's own window would only cost memory.
			Duplicates: 100 * time.Millisecond,
			Metadata:   map[string]string{metaPartitions: strconv.Itoa(b.cfg.Partitions)},
		})
	}
	return cfgs
}
