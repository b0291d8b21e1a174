package postgres

import (
	"context"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Execution is a row of executions: what users see, and what the projector and the janitor need.
type Execution struct {
	protocol.Execution
	Partition int
	FirstSeq  uint64 // of the oldest commit that an executor still needs
}

const executionColumns = `id, tenant_id, workflow_id, workflow_version, workflow_name, spec_hash, status, error,
	timeout_scope, timeout_node, timeout_elapsed_ms, tags, actor, request_id, rerun_of, created_at, started_at, completed_at, deadline,
	duration_ms, duration_seconds, tokens_used, cost::text, nodes_run, last_seq`

func scanExecution(r pgx.Row, extra ...any) (protocol.Execution, error) {
	var (
		v                                protocol.Execution
		workflowID, rerun, scope, atNode *string
		version                          *int
		elapsed                          *int64
		created                          time.Time
		started, completed, deadline     *time.Time
		cost                             string
	)
	err := r.Scan(append([]any{
		&v.ID, &v.Tenant, &workflowID, &version, &v.WorkflowName, &v.SpecHash, &v.Status, &v.Error,
		&scope, &atNode, &elapsed, &v.Tags, &v.Actor, &v.RequestID, &rerun, &created, &started, &completed, &deadline,
		&v.DurationMS, &v.DurationSeconds, &v.TokensUsed, &cost, &v.NodesRun, &v.LastSequence,
	}, extra...)...)
	v.WorkflowID, v.RerunOf, v.Cost = orEmpty(workflowID), protocol.ExecutionID(orEmpty(rerun)), json.Number(cost)
	v.CreatedAt, v.StartedAt, v.CompletedAt, v.Deadline = protocol.At(created), orZero(started), orZero(completed), orZero(deadline)
	if version != nil {
		v.WorkflowVersion = *version
	}
	if scope != nil {
		v.Timeout = &protocol.ExecutionTimeout{Scope: *scope, Node: orEmpty(atNode)}
		if elapsed != nil {
			v.Timeout.ElapsedMS = *elapsed
		}
	}
	return v, err
}

const fullExecutionColumns = executionColumns + ", initial_state, final_state, runs, nodes, initial_state_ref, final_state_ref, partition, first_seq"

func scanFullExecution(r pgx.Row) (Execution, error) {
	var (
		x                    Execution
		initialRef, finalRef *string
		initial, final       json.RawMessage
		runs, nodes          []byte
	)
	v, err := scanExecution(r, &initial, &final, &runs, &nodes, &initialRef, &finalRef, &x.Partition, &x.FirstSeq)
	if err != nil {
		return x, err
	}
	v.InitialState, v.FinalState = initial, final
	v.InitialStateRef, v.FinalStateRef = orEmpty(initialRef), orEmpty(finalRef)
	v.Nodes, err = readRuns(v.CreatedAt, runs, nodes)
	x.Execution = v
	return x, err
}

// GetExecution reads an execution whole; what stands in the object store stays a reference.
func (s *Store) GetExecution(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID) (Execution, error) {
	var (
		v     Execution
		found bool
	)
	if !clean(string(id)) {
		return v, Missing("execution", string(id), false)
	}
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue("select "+fullExecutionColumns+" from executions where id = $1 and tenant_id = $2", id, t).Query(one(func(r pgx.Rows) (err error) {
			v, err = scanFullExecution(r)
			found = true
			return err
		}))
	})
	if err == nil && !found {
		err = s.missing(ctx, t, "execution", string(id))
	}
	return v, err
}

// ListExecutions lists the executions of a tenant.
func (s *Store) ListExecutions(ctx context.Context, req protocol.ListExecutionsRequest) (protocol.List[protocol.Execution], error) {
	var l protocol.List[protocol.Execution]
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	for field, value := range map[string]string{"status": req.Status, "tag": req.Tag} {
		if !clean(value) {
			return l, &protocol.Error{Code: protocol.CodeInvalid, Field: field, Message: field + " must be text"}
		}
	}
	if !clean(req.WorkflowID) {
		return l, Missing("workflow", req.WorkflowID, false)
	}
	t := req.Tenant
	var q query
	from, at, id := "executions", "created_at", "id"
	q.and("tenant_id = ?", t)
	if req.Tag != "" {
		// The tags lead: they are in the order of the list.
		q = query{}
		from = "execution_tags g join executions e on e.id = g.execution_id and e.tenant_id = g.tenant_id"
		at, id = "g.created_at", "g.execution_id"
		q.and("g.tenant_id = ? and g.tag = ?", t, req.Tag)
	}
	if req.Status != "" {
		q.and("status = ?", req.Status)
	}
	if req.WorkflowID != "" {
		q.and("workflow_id = ?", req.WorkflowID)
	}
	within(&q, at, req.Since, req.Until)
	columns := executionColumns
	if req.Tag != "" {
		columns = taggedColumns
	}
	count, countArgs := "select count(*) from "+from+" where "+q.conditions(), q.args
	sql := q.list(columns, from, at, id, p)
	counted := req.Tag == "" && req.WorkflowID == "" && req.Since.IsZero() && req.Until.IsZero()
	known := req.WorkflowID == ""
	err = s.read(ctx, t, func(b *pgx.Batch) {
		if !known {
			b.Queue("select true from workflows where id = $1 and tenant_id = $2", req.WorkflowID, t).Query(one(func(r pgx.Rows) error { return r.Scan(&known) }))
		}
		switch {
		case p.after != nil:
		case counted:
			queueCount(b, t, countExecutions, req.Status, "", &l.Total)
		default:
			b.Queue(count, countArgs...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.Execution, position, error) {
			v, err := scanExecution(r)
			return v, position{v.CreatedAt.Time, string(v.ID)}, err
		}))
	})
	if err == nil && !known {
		err = s.missing(ctx, t, "workflow", req.WorkflowID)
	}
	return l, err
}

// taggedColumns are executionColumns of a join in which some names stand on both sides.
const taggedColumns = `e.id, e.tenant_id, workflow_id, workflow_version, workflow_name, spec_hash, status, error,
	timeout_scope, timeout_node, timeout_elapsed_ms, tags, actor, request_id, rerun_of, e.created_at, started_at, completed_at, deadline,
	duration_ms, duration_seconds, tokens_used, cost::text, nodes_run, last_seq`

// ActiveExecutions tells which executions of a workflow have not ended.
func (tx *Tx) ActiveExecutions(ctx context.Context, t protocol.TenantID, workflow string) (protocol.Active, error) {
	active := protocol.Active{Executions: []protocol.ExecutionID{}}
	b := &pgx.Batch{}
	const sql = "from executions where workflow_id = $1 and tenant_id = $2 and status in ('PENDING', 'RUNNING')"
	b.Queue("select count(*) "+sql, workflow, t).QueryRow(func(r pgx.Row) error { return r.Scan(&active.Total) })
	b.Queue("select id "+sql+" order by created_at desc, id desc limit 100", workflow, t).Query(func(rows pgx.Rows) error {
		var id protocol.ExecutionID
		_, err := pgx.ForEachRow(rows, []any{&id}, func() error {
			active.Executions = append(active.Executions, id)
			return nil
		})
		return err
	})
	return active, fault("active executions of "+workflow, tx.tx.SendBatch(ctx, b).Close())
}

// Executions reads rows as the projector needs them, by id, for all tenants.
func (tx *Tx) Executions(ctx context.Context, ids []protocol.ExecutionID) ([]*Execution, error) {
	rows, err := tx.tx.Query(ctx, "select "+fullExecutionColumns+" from executions where id = any ($1)", ids)
	if err != nil {
		return nil, fault("read executions", err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*Execution, error) {
		x, err := scanFullExecution(r)
		return &x, err
	})
	return out, fault("read executions", err)
}
