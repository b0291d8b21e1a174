package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

const keyColumns = "id, tenant_id, name, hash, prefix, scopes, status, limits, version, created_at, expires_at, revoked_at, previous_hash, previous_expires_at"

func scanKey(r pgx.Row, extra ...any) (protocol.Key, error) {
	var (
		v                                protocol.Key
		created                          time.Time
		expires, revoked, previousExpire *time.Time
		previous                         *string
	)
	err := r.Scan(append([]any{
		&v.ID, &v.Tenant, &v.Name, &v.Hash, &v.Prefix, &v.Scopes, &v.Status, &v.Limits, &v.Version, &created, &expires, &revoked,
		&previous, &previousExpire,
	}, extra...)...)
	v.CreatedAt, v.ExpiresAt, v.RevokedAt = protocol.At(created), orZero(expires), orZero(revoked)
	v.PreviousHash, v.PreviousExpiresAt = orEmpty(previous), orZero(previousExpire)
	return v, err
}

func putKey(b *pgx.Batch, t protocol.TenantID, v, _ *protocol.Key, c Change) {
	scopes := v.Scopes
	if scopes == nil {
		scopes = []string{}
	}
	b.Queue(`
		insert into api_keys as k (id, tenant_id, name, hash, prefix, scopes, status, limits, version, created_at, expires_at, revoked_at,
			previous_hash, previous_expires_at, revision, last_seq)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
		on conflict (id, tenant_id) do update set name = excluded.name, hash = excluded.hash, prefix = excluded.prefix, scopes = excluded.scopes,
			status = excluded.status, limits = excluded.limits, version = excluded.version, created_at = excluded.created_at,
			expires_at = excluded.expires_at, revoked_at = excluded.revoked_at, previous_hash = excluded.previous_hash,
			previous_expires_at = excluded.previous_expires_at, revision = excluded.revision, last_seq = excluded.last_seq
		where k.last_seq < excluded.last_seq`,
		v.ID, t, v.Name, v.Hash, v.Prefix, scopes, v.Status, jsonOrNull(v.Limits), v.Version, v.CreatedAt.Time, timeOrNull(v.ExpiresAt),
		timeOrNull(v.RevokedAt), textOrNull(v.PreviousHash), timeOrNull(v.PreviousExpiresAt), c.Event.Revision, signed(c.Seq))
}

// GetKey reads a key of a tenant.
func (s *Store) GetKey(ctx context.Context, t protocol.TenantID, id string) (protocol.Key, error) {
	var (
		v     protocol.Key
		found bool
	)
	if !clean(id) {
		return v, Missing("key", id, false)
	}
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue("select "+keyColumns+" from api_keys where id = $1 and tenant_id = $2", id, t).Query(one(func(r pgx.Rows) (err error) {
			v, err = scanKey(r)
			found = true
			return err
		}))
	})
	if err == nil && !found {
		err = s.missing(ctx, t, "key", id)
	}
	return v, err
}

// ListKeys lists the keys of a tenant.
func (s *Store) ListKeys(ctx context.Context, req protocol.ListKeysRequest) (protocol.List[protocol.Key], error) {
	var l protocol.List[protocol.Key]
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	var q query
	q.and("tenant_id = ?", req.Tenant)
	switch req.Status {
	case "":
	case protocol.StatusActive:
		q.and("status = 'active' and (expires_at is null or expires_at > now())")
	case protocol.StatusExpired:
		q.and("status = 'active' and expires_at <= now()")
	default:
		q.and("status = ?", req.Status)
	}
	count, countArgs := "select count(*) from api_keys where "+q.conditions(), q.args
	sql := q.list(keyColumns, "api_keys", "created_at", "id", p)
	err = s.read(ctx, req.Tenant, func(b *pgx.Batch) {
		if p.after == nil {
			b.Queue(count, countArgs...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.Key, position, error) {
			v, err := scanKey(r)
			return v, position{v.CreatedAt.Time, v.ID}, err
		}))
	})
	return l, err
}
