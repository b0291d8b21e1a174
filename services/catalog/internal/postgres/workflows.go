package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

const workflowColumns = "id, tenant_id, name, description, status, version, created_at, created_by, updated_at, updated_by, deleted_at, deleted_by"

func scanWorkflow(r pgx.Row, extra ...any) (protocol.Workflow, error) {
	var (
		v                protocol.Workflow
		created, updated time.Time
		deleted          *time.Time
		deletedBy        *string
	)
	err := r.Scan(append([]any{
		&v.ID, &v.Tenant, &v.Name, &v.Description, &v.Status, &v.Version, &created, &v.CreatedBy, &updated, &v.UpdatedBy, &deleted, &deletedBy,
	}, extra...)...)
	v.CreatedAt, v.UpdatedAt, v.DeletedAt, v.DeletedBy = protocol.At(created), protocol.At(updated), orZero(deleted), orEmpty(deletedBy)
	return v, err
}

func putWorkflow(b *pgx.Batch, t protocol.TenantID, v, old *protocol.Workflow, c Change) {
	text := SearchText(v.Name, v.Description)
	b.Queue(`
		insert into workflows as w (id, tenant_id, name, description, status, version, spec, created_at, created_by, updated_at, updated_by,
			deleted_at, deleted_by, search_text, search_grams, revision, last_seq)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
		on conflict (id, tenant_id) do update set name = excluded.name, description = excluded.description, status = excluded.status,
			version = excluded.version, spec = excluded.spec, created_at = excluded.created_at, created_by = excluded.created_by,
			updated_at = excluded.updated_at, updated_by = excluded.updated_by, deleted_at = excluded.deleted_at,
			deleted_by = excluded.deleted_by, search_text = excluded.search_text, search_grams = excluded.search_grams,
			revision = excluded.revision, last_seq = excluded.last_seq
		where w.last_seq < excluded.last_seq`,
		v.ID, t, v.Name, v.Description, v.Status, v.Version, v.Spec, v.CreatedAt.Time, v.CreatedBy, v.UpdatedAt.Time, v.UpdatedBy,
		timeOrNull(v.DeletedAt), textOrNull(v.DeletedBy), text, Grams(text), c.Event.Revision, signed(c.Seq))

	from := ""
	if old != nil {
		from = old.Status
	}
	if old == nil || old.Version != v.Version {
		b.Queue(`
			insert into workflow_versions (workflow_id, version, tenant_id, name, description, status, spec, created_at, created_by, seq)
			values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
			on conflict (workflow_id, version, tenant_id) do nothing`,
			v.ID, v.Version, t, v.Name, v.Description, v.Status, v.Spec, v.UpdatedAt.Time, v.UpdatedBy, signed(c.Seq))
	}
	uses := c.Uses
	if uses == nil || v.Status == protocol.WorkflowDeleted {
		uses = []string{}
	}
	if old != nil {
		b.Queue("delete from workflow_sources where tenant_id = $1 and workflow_id = $2 and source_id <> all ($3)", t, v.ID, uses)
	}
	if len(uses) > 0 {
		b.Queue("insert into workflow_sources (tenant_id, source_id, workflow_id) select $1, unnest($2::text[]), $3 on conflict do nothing", t, uses, v.ID)
	}
	move(b, t, countWorkflows, v.ID, from, v.Status)
}

// GetWorkflow reads a workflow, or one of its versions.
func (s *Store) GetWorkflow(ctx context.Context, t protocol.TenantID, id string, version int) (protocol.Workflow, error) {
	var (
		v     protocol.Workflow
		found bool
	)
	if !clean(id) {
		return v, Missing("workflow", id, false)
	}
	err := s.read(ctx, t, func(b *pgx.Batch) {
		scan := one(func(r pgx.Rows) (err error) {
			var spec json.RawMessage
			v, err = scanWorkflow(r, &spec)
			v.Spec, found = spec, true
			return err
		})
		if version == 0 {
			b.Queue("select "+workflowColumns+", spec from workflows where id = $1 and tenant_id = $2 and deleted_at is null", id, t).Query(scan)
			return
		}
		b.Queue(`
			select w.id, w.tenant_id, v.name, v.description, v.status, v.version, w.created_at, w.created_by, v.created_at, v.created_by,
				w.deleted_at, w.deleted_by, v.spec
			from workflows w join workflow_versions v on v.workflow_id = w.id and v.tenant_id = w.tenant_id
			where w.id = $1 and w.tenant_id = $2 and w.deleted_at is null and v.version = $3`, id, t, version).Query(scan)
	})
	if err == nil && !found {
		if version != 0 {
			if _, err := s.GetWorkflow(ctx, t, id, 0); err != nil {
				return protocol.Workflow{}, err
			}
			return protocol.Workflow{}, &protocol.Error{Code: protocol.CodeNotFound, Field: "version", Message: "the workflow has no such version"}
		}
		err = s.missing(ctx, t, "workflow", id)
	}
	return v, err
}

// ListWorkflows lists the workflows of a tenant.
func (s *Store) ListWorkflows(ctx context.Context, req protocol.ListWorkflowsRequest) (protocol.List[protocol.Workflow], error) {
	var l protocol.List[protocol.Workflow]
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	if !clean(req.Search) {
		return l, &protocol.Error{Code: protocol.CodeInvalid, Field: "search", Message: "search must be text"}
	}
	var q query
	q.and("tenant_id = ?", req.Tenant)
	if req.Status != protocol.WorkflowDeleted {
		q.and("deleted_at is null")
	}
	if req.Status != "" {
		q.and("status = ?", req.Status)
	}
	folded := fold(req.Search)
	if folded != "" {
		q.and("id in (select search_workflows(?::text[], ?))", Grams(folded), pattern(folded))
	}
	count, countArgs := "select count(*) from workflows where "+q.conditions(), q.args
	sql := q.list(workflowColumns, "workflows", "created_at", "id", p)
	err = s.read(ctx, req.Tenant, func(b *pgx.Batch) {
		switch {
		case p.after != nil:
		case folded != "":
			b.Queue(count, countArgs...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		default:
			except := protocol.WorkflowDeleted
			if req.Status == protocol.WorkflowDeleted {
				except = ""
			}
			queueCount(b, req.Tenant, countWorkflows, req.Status, except, &l.Total)
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.Workflow, position, error) {
			v, err := scanWorkflow(r)
			return v, position{v.CreatedAt.Time, v.ID}, err
		}))
	})
	return l, err
}

// ListWorkflowVersions lists the versions of a workflow.
func (s *Store) ListWorkflowVersions(ctx context.Context, req protocol.ListWorkflowVersionsRequest) (protocol.List[protocol.WorkflowVersion], error) {
	var (
		l     protocol.List[protocol.WorkflowVersion]
		found bool
	)
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	if !clean(req.ID) {
		return l, Missing("workflow", req.ID, false)
	}
	var q query
	q.and("workflow_id = ? and tenant_id = ?", req.ID, req.Tenant)
	args := q.args
	const columns = "workflow_id, version, name, description, status, created_at, created_by"
	// The versions of one workflow are listed by number; the time in the cursor is the Unix epoch plus the version.
	const at = "(timestamptz 'epoch' + version * interval '1 second')"
	sql := q.list(columns, "workflow_versions", at, "workflow_id", p)
	err = s.read(ctx, req.Tenant, func(b *pgx.Batch) {
		b.Queue("select true from workflows where id = $1 and tenant_id = $2 and deleted_at is null", args...).Query(one(func(r pgx.Rows) error { return r.Scan(&found) }))
		if p.after == nil {
			b.Queue("select count(*) from workflow_versions where workflow_id = $1 and tenant_id = $2", args...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.WorkflowVersion, position, error) {
			var (
				v       protocol.WorkflowVersion
				created time.Time
			)
			err := r.Scan(&v.WorkflowID, &v.Version, &v.Name, &v.Description, &v.Status, &created, &v.CreatedBy)
			v.CreatedAt = protocol.At(created)
			return v, position{time.Unix(int64(v.Version), 0), v.WorkflowID}, err
		}))
	})
	if err == nil && !found {
		err = s.missing(ctx, req.Tenant, "workflow", req.ID)
	}
	return l, err
}
