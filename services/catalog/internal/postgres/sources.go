package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

const sourceColumns = "id, tenant_id, kind, name, config, status, version, created_at, created_by, updated_at, updated_by, deleted_at, deleted_by"

func scanSource(r pgx.Row, extra ...any) (protocol.KeptSource, error) {
	var (
		v                protocol.KeptSource
		created, updated time.Time
		deleted          *time.Time
		deletedBy        *string
	)
	err := r.Scan(append([]any{
		&v.ID, &v.Tenant, &v.Kind, &v.Name, &v.Config, &v.Status, &v.Version, &created, &v.CreatedBy, &updated, &v.UpdatedBy, &deleted, &deletedBy,
	}, extra...)...)
	v.CreatedAt, v.UpdatedAt, v.DeletedAt, v.DeletedBy = protocol.At(created), protocol.At(updated), orZero(deleted), orEmpty(deletedBy)
	return v, err
}

func putSource(b *pgx.Batch, t protocol.TenantID, v, old *protocol.KeptSource, c Change) {
	config, err := json.Marshal(v.Config)
	if err != nil || v.Config == nil {
		config = []byte("{}") // it has just been decoded, so it encodes
	}
	b.Queue(`
		insert into sources as s (id, tenant_id, kind, name, config, status, version, created_at, created_by, updated_at, updated_by,
			deleted_at, deleted_by, revision, last_seq)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
		on conflict (id, tenant_id) do update set kind = excluded.kind, name = excluded.name, config = excluded.config, status = excluded.status,
			version = excluded.version, created_at = excluded.created_at, created_by = excluded.created_by, updated_at = excluded.updated_at,
			updated_by = excluded.updated_by, deleted_at = excluded.deleted_at, deleted_by = excluded.deleted_by,
			revision = excluded.revision, last_seq = excluded.last_seq
		where s.last_seq < excluded.last_seq`,
		v.ID, t, v.Kind, v.Name, json.RawMessage(config), v.Status, v.Version, v.CreatedAt.Time, v.CreatedBy, v.UpdatedAt.Time, v.UpdatedBy,
		timeOrNull(v.DeletedAt), textOrNull(v.DeletedBy), c.Event.Revision, signed(c.Seq))
	from := ""
	if old != nil {
		from = old.Status
	}
	move(b, t, countSources, v.ID, from, v.Status)
}

// GetSource reads a kept source.
func (s *Store) GetSource(ctx context.Context, t protocol.TenantID, id string) (protocol.KeptSource, error) {
	var (
		v     protocol.KeptSource
		found bool
	)
	if !clean(id) {
		return v, Missing("source", id, false)
	}
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue("select "+sourceColumns+" from sources where id = $1 and tenant_id = $2 and deleted_at is null", id, t).Query(one(func(r pgx.Rows) (err error) {
			v, err = scanSource(r)
			found = true
			return err
		}))
	})
	if err == nil && !found {
		err = s.missing(ctx, t, "source", id)
	}
	return v, err
}

// ListSources lists the kept sources of a tenant.
func (s *Store) ListSources(ctx context.Context, req protocol.ListSourcesRequest) (protocol.List[protocol.KeptSource], error) {
	var l protocol.List[protocol.KeptSource]
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	var q query
	q.and("tenant_id = ? and deleted_at is null", req.Tenant)
	if req.Kind != "" {
		q.and("kind = ?", req.Kind)
	}
	count, countArgs := "select count(*) from sources where "+q.conditions(), q.args
	sql := q.list(sourceColumns, "sources", "created_at", "id", p)
	err = s.read(ctx, req.Tenant, func(b *pgx.Batch) {
		switch {
		case p.after != nil:
		case req.Kind != "":
			b.Queue(count, countArgs...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		default:
			queueCount(b, req.Tenant, countSources, "", protocol.SourceDeleted, &l.Total)
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.KeptSource, position, error) {
			v, err := scanSource(r)
			return v, position{v.CreatedAt.Time, v.ID}, err
		}))
	})
	return l, err
}

// SourceKinds tells the kinds of those of the sources that the tenant keeps.
func (tx *Tx) SourceKinds(ctx context.Context, t protocol.TenantID, ids []string) (map[string]string, error) {
	kinds := map[string]string{}
	rows, err := tx.tx.Query(ctx, "select id, kind from sources where tenant_id = $1 and id = any ($2) and deleted_at is null", t, ids)
	if err != nil {
		return nil, fault("read kinds of sources", err)
	}
	var id, kind string
	_, err = pgx.ForEachRow(rows, []any{&id, &kind}, func() error {
		kinds[id] = kind
		return nil
	})
	return kinds, fault("read kinds of sources", err)
}

// UsersOf tells which workflows of the tenant name a kept source.
func (tx *Tx) UsersOf(ctx context.Context, t protocol.TenantID, source string) (protocol.InUse, error) {
	use := protocol.InUse{Workflows: []protocol.WorkflowRef{}}
	rows, err := tx.tx.Query(ctx, `
		select w.id, w.name, count(*) over () from workflow_sources u join workflows w on w.id = u.workflow_id and w.tenant_id = u.tenant_id
		where u.tenant_id = $1 and u.source_id = $2 and w.deleted_at is null order by w.created_at, w.id limit 100`, t, source)
	if err != nil {
		return use, fault("who uses source "+source, err)
	}
	var ref protocol.WorkflowRef
	_, err = pgx.ForEachRow(rows, []any{&ref.ID, &ref.Name, &use.Total}, func() error {
		use.Workflows = append(use.Workflows, ref)
		return nil
	})
	return use, fault(fmt.Sprintf("who uses source %s", source), err)
}
