package platform

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// identity is what the data folder knows of its keys: the platform stores only hashes, and a newcomer wants the key
// of yesterday to work today.
type identity struct {
	AdminKey string                       `json:"admin_key"`
	Tenants  map[protocol.TenantID]apiKey `json:"tenants"`

	path   string
	tenant protocol.TenantID
	key    apiKey // of tenant
}

type apiKey struct {
	ID  string `json:"id"`
	Key string `json:"key"`
}

// keyPrefixLength is how much of a key may be shown, to tell keys apart.
const keyPrefixLength = 11

func newKey() string {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the process instead
	return "af_" + hex.EncodeToString(random[:])
}

func (k apiKey) hash() string {
	sum := sha256.Sum256([]byte(k.Key))
	return hex.EncodeToString(sum[:])
}

// loadIdentity reads the keys of a data folder, or makes them.
func loadIdentity(data string) (*identity, error) {
	id := &identity{path: filepath.Join(data, "keys.json")}
	text, err := os.ReadFile(id.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("read the keys: %w", err)
	default:
		if err := json.Unmarshal(text, id); err != nil {
			return nil, fmt.Errorf("read the keys: %s is damaged: %w; without it, new keys are made", id.path, err)
		}
	}
	if id.Tenants == nil {
		id.Tenants = map[protocol.TenantID]apiKey{}
	}
	if id.AdminKey != "" {
		return id, nil
	}
	id.AdminKey = newKey()
	if err := id.save(); err != nil {
		return nil, err
	}
	return id, nil
}

func (id *identity) save() error {
	if err := replaceFile(id.path, id); err != nil {
		return fmt.Errorf("keep the keys: %w", err)
	}
	return nil
}

// replaceFile writes a private file of JSON so that a crash leaves either the old one or the new.
func replaceFile(path string, v any) error {
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return err
	}
	temporary := path + ".new"
	file, err := os.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(append(text, '\n'))
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	return os.Rename(temporary, path)
}

// register sees to it that the tenant exists and that its key opens the door. The log is asked first: what stands
// there needs no command.
func (id *identity) register(ctx context.Context, b *bus.Bus, tenant protocol.TenantID) error {
	id.tenant, id.key = tenant, id.Tenants[tenant]
	if err := id.ensureTenant(ctx, b); err != nil {
		return fmt.Errorf("make tenant %s: %w", tenant, err)
	}
	if err := id.ensureKey(ctx, b); err != nil {
		return fmt.Errorf("make a key for tenant %s: %w", tenant, err)
	}
	return nil
}

func (id *identity) ensureTenant(ctx context.Context, b *bus.Bus) error {
	known := func() (bool, error) {
		_, _, err := b.LastCatalog(ctx, id.tenant, protocol.KindTenant, string(id.tenant))
		if errors.Is(err, bus.ErrNotFound) {
			return false, nil
		}
		return err == nil, err
	}
	ok, err := known()
	if ok || err != nil {
		return err
	}
	_, err = send[protocol.Tenant](ctx, b, id.tenant, protocol.VerbTenantCreate, protocol.CreateTenant{})
	if protocol.CodeOf(err) != protocol.CodeConflict {
		return err
	}
	// A command of a start that was killed may have been carried out just now.
	if ok, err := known(); ok || err != nil {
		return err
	}
	return errors.New("the database holds the data of another log: use it with the data folder it came from, or give an empty database")
}

func (id *identity) ensureKey(ctx context.Context, b *bus.Bus) error {
	if id.key.ID != "" {
		ok, err := id.keyGood(ctx, b)
		if ok || err != nil {
			return err
		}
	}
	// Known here before anybody else knows it: a crash now leaves a key to register, not one that nobody has.
	if id.key.ID == "" {
		id.key = apiKey{ID: typeid.New("key"), Key: newKey()}
		id.Tenants[id.tenant] = id.key
		if err := id.save(); err != nil {
			return err
		}
	}
	_, err := send[protocol.Key](ctx, b, id.tenant, protocol.VerbKeyCreate, protocol.CreateKey{
		ID: id.key.ID, Name: "agentflow up", Hash: id.key.hash(), Prefix: id.key.Key[:keyPrefixLength],
	})
	if protocol.CodeOf(err) == protocol.CodeConflict {
		if ok, err := id.keyGood(ctx, b); ok || err != nil {
			return err
		}
	}
	return err
}

// keyGood tells whether the log has the key as it is here. A key that was revoked, or given another secret, is
// forgotten: the one who did that has no use for it here.
func (id *identity) keyGood(ctx context.Context, b *bus.Bus) (bool, error) {
	event, _, err := b.LastCatalog(ctx, id.tenant, protocol.KindKey, id.key.ID)
	if errors.Is(err, bus.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	var kept protocol.Key
	if err := json.Unmarshal(event.Document, &kept); err != nil {
		return false, fmt.Errorf("read key %s: %w", id.key.ID, err)
	}
	expired := !kept.ExpiresAt.IsZero() && !time.Now().Before(kept.ExpiresAt.Time)
	if kept.Status == protocol.StatusActive && kept.Hash == id.key.hash() && !expired && !event.Deleted() {
		return true, nil
	}
	id.key = apiKey{}
	return false, nil
}

func send[T any](ctx context.Context, b *bus.Bus, tenant protocol.TenantID, verb protocol.Verb, data any) (T, error) {
	body, err := json.Marshal(data)
	if err != nil {
		var zero T
		return zero, fmt.Errorf("encode %s: %w", verb, err)
	}
	return bus.SendCommand[T](ctx, b, protocol.Command{
		ID: typeid.New("cmd"), Tenant: tenant, Verb: verb, Actor: "platform", At: protocol.At(time.Now()), Data: body,
	})
}
