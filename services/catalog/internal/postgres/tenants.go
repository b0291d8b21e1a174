package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

const tenantColumns = "id, name, status, limits, version, created_at, updated_at"

func scanTenant(r pgx.Row, extra ...any) (protocol.Tenant, error) {
	var (
		v                protocol.Tenant
		created, updated time.Time
	)
	err := r.Scan(append([]any{&v.ID, &v.Name, &v.Status, &v.Limits, &v.Version, &created, &updated}, extra...)...)
	v.CreatedAt, v.UpdatedAt = protocol.At(created), protocol.At(updated)
	return v, err
}

func putTenant(b *pgx.Batch, _ protocol.TenantID, v, _ *protocol.Tenant, c Change) {
	b.Queue(`
		insert into tenants as t (id, name, status, limits, version, created_at, updated_at, revision, last_seq)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
		on conflict (id) do update set name = excluded.name, status = excluded.status, limits = excluded.limits,
			version = excluded.version, created_at = excluded.created_at, updated_at = excluded.updated_at,
			revision = excluded.revision, last_seq = excluded.last_seq
		where t.last_seq < excluded.last_seq`,
		v.ID, v.Name, v.Status, jsonOrNull(v.Limits), v.Version, v.CreatedAt.Time, v.UpdatedAt.Time, c.Event.Revision, signed(c.Seq))
}

// jsonOrNull is limits for a column that may be null: a nil pointer must not become the JSON null.
func jsonOrNull(l *protocol.TenantLimits) *string {
	if l == nil {
		return nil
	}
	raw, err := json.Marshal(l)
	if err != nil {
		return nil // four numbers always encode
	}
	s := string(raw)
	return &s
}

// GetTenant reads a tenant.
func (s *Store) GetTenant(ctx context.Context, t protocol.TenantID) (protocol.Tenant, error) {
	var (
		v     protocol.Tenant
		found bool
	)
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue("select "+tenantColumns+" from tenants where id = $1", t).Query(one(func(r pgx.Rows) (err error) {
			v, err = scanTenant(r)
			found = true
			return err
		}))
	})
	if err == nil && !found {
		err = Missing("tenant", string(t), false)
	}
	return v, err
}

// ListTenants lists the tenants of the platform.
func (s *Store) ListTenants(ctx context.Context, req protocol.ListTenantsRequest) (protocol.List[protocol.Tenant], error) {
	var l protocol.List[protocol.Tenant]
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	var q query
	if req.Status != "" {
		q.and("status = ?", req.Status)
	}
	count, countArgs := "select count(*) from tenants where "+q.conditions(), q.args
	sql := q.list(tenantColumns, "tenants", "created_at", "id", p)
	err = s.read(ctx, platform, func(b *pgx.Batch) {
		if p.after == nil {
			b.Queue(count, countArgs...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.Tenant, position, error) {
			v, err := scanTenant(r)
			return v, position{v.CreatedAt.Time, string(v.ID)}, err
		}))
	})
	return l, err
}
