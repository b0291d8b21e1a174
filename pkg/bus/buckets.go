package bus

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

func (b *Bus) bucket(ctx context.Context, name string) (jetstream.KeyValue, error) {
	b.mu.Lock()
	kv, ok := b.kvs[name]
	b.mu.Unlock()
	if ok {
		return kv, nil
	}
	kv, err := b.js.KeyValue(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", name, err)
	}
	b.mu.Lock()
	b.kvs[name] = kv
	b.mu.Unlock()
	return kv, nil
}

// PutSpec keeps a resolved spec under its content hash and renews its lifetime. Specs of
// different tenants never meet: a key holds the tenant too.
func (b *Bus) PutSpec(ctx context.Context, t protocol.TenantID, hash string, doc []byte) error {
	kv, err := b.bucket(ctx, protocol.BucketSpecs)
	if err != nil {
		return err
	}
	if _, err := kv.Put(ctx, specKey(t, hash), doc); err != nil {
		return fmt.Errorf("keep spec %s: %w", hash, err)
	}
	return nil
}

// GetSpec reads a resolved spec, or ErrNotFound when it has expired.
func (b *Bus) GetSpec(ctx context.Context, t protocol.TenantID, hash string) ([]byte, error) {
	kv, err := b.bucket(ctx, protocol.BucketSpecs)
	if err != nil {
		return nil, err
	}
	e, err := kv.Get(ctx, specKey(t, hash))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, fmt.Errorf("spec %s: %w", hash, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read spec %s: %w", hash, err)
	}
	return e.Value(), nil
}

func specKey(t protocol.TenantID, hash string) string { return string(t) + "." + hash }

// Claim keeps value under a key that no one has claimed in the last 24 h. When someone has, it
// returns what they kept and false. The value must be the claimer's own, so that a claim whose
// acknowledgement was lost is recognised when it is made again.
func (b *Bus) Claim(ctx context.Context, t protocol.TenantID, key string, value []byte) (kept []byte, won bool, err error) {
	kv, err := b.bucket(ctx, protocol.BucketIdem)
	if err != nil {
		return nil, false, err
	}
	k := string(t) + "." + protocol.Token(key)
	for range claimTries {
		_, err = kv.Create(ctx, k, value)
		if err == nil {
			return value, true, nil
		}
		if !errors.Is(err, jetstream.ErrKeyExists) {
			break
		}
		var e jetstream.KeyValueEntry
		if e, err = kv.Get(ctx, k); err == nil {
			return e.Value(), bytes.Equal(e.Value(), value), nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) {
			break
		}
		// It ran out between the two.
	}
	return nil, false, fmt.Errorf("claim %s: %w", key, errors.Join(ErrUnavailable, err))
}

// Unclaim gives a key back that was claimed with a value. A claim with another value stays.
func (b *Bus) Unclaim(ctx context.Context, t protocol.TenantID, key string, value []byte) error {
	kv, err := b.bucket(ctx, protocol.BucketIdem)
	if err != nil {
		return err
	}
	k := string(t) + "." + protocol.Token(key)
	e, err := kv.Get(ctx, k)
	switch {
	case errors.Is(err, jetstream.ErrKeyNotFound), err == nil && !bytes.Equal(e.Value(), value):
		return nil
	case err == nil:
		err = kv.Delete(ctx, k, jetstream.LastRevision(e.Revision()))
	}
	if err != nil {
		return fmt.Errorf("unclaim %s: %w", key, errors.Join(ErrUnavailable, err))
	}
	return nil
}

// claimTries bounds how often a claim may run out just when it is looked at.
const claimTries = 3

// PutObject stores a large value of a tenant and returns its name.
func (b *Bus) PutObject(ctx context.Context, t protocol.TenantID, data []byte) (string, error) {
	obj, err := b.objectStore(ctx)
	if err != nil {
		return "", err
	}
	name := string(t) + "/" + typeid.New("obj")
	if _, err := obj.PutBytes(ctx, name, data); err != nil {
		return "", fmt.Errorf("store object of %d bytes: %w", len(data), err)
	}
	return name, nil
}

// GetObject reads a value of at most limit bytes. A name of another tenant is not found.
func (b *Bus) GetObject(ctx context.Context, t protocol.TenantID, name string, limit int64) ([]byte, error) {
	if !bytes.HasPrefix([]byte(name), []byte(string(t)+"/")) {
		return nil, fmt.Errorf("object %s: %w", name, ErrNotFound)
	}
	obj, err := b.objectStore(ctx)
	if err != nil {
		return nil, err
	}
	r, err := obj.Get(ctx, name)
	if errors.Is(err, jetstream.ErrObjectNotFound) {
		return nil, fmt.Errorf("object %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", name, err)
	}
	defer func() { _ = r.Close() }() // only read from
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read object %s: %w", name, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read object %s: larger than %d bytes", name, limit)
	}
	return data, nil
}

func (b *Bus) objectStore(ctx context.Context) (jetstream.ObjectStore, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.objects == nil {
		obj, err := b.js.ObjectStore(ctx, protocol.BucketObjects)
		if err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", protocol.BucketObjects, err)
		}
		b.objects = obj
	}
	return b.objects, nil
}

// Progress publishes live progress of an execution; nobody may be listening, and nothing is kept.
func (b *Bus) Progress(t protocol.TenantID, id protocol.ExecutionID, body []byte) error {
	if err := b.nc.Publish(protocol.ProgressSubject(t, id), body); err != nil {
		return fmt.Errorf("progress of %s: %w", id, err)
	}
	return nil
}
