package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentflow/agentflow/pkg/archive"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// ErrMoved says that another process has moved a checkpoint.
var ErrMoved = errors.New("the checkpoint was moved by another process")

// Archived is a commit on its way into the archive.
type Archived struct {
	Key      protocol.ExecutionKey
	Seq      uint64
	Previous uint64
	CommitID string
	Stored   time.Time
	Body     []byte
}

// Checkpoint tells how far the tables follow a stream.
func (s *Store) Checkpoint(ctx context.Context, stream string) (uint64, error) {
	var seq uint64
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue("select last_seq from projection_checkpoints where stream = $1", stream).Query(one(func(r pgx.Rows) error { return r.Scan(&seq) }))
	})
	return seq, err
}

// Checkpoints tells how far the tables follow each stream.
func (s *Store) Checkpoints(ctx context.Context) (map[string]uint64, error) {
	out := map[string]uint64{}
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue("select stream, last_seq from projection_checkpoints").Query(func(rows pgx.Rows) error {
			var (
				stream string
				seq    uint64
			)
			_, err := pgx.ForEachRow(rows, []any{&stream, &seq}, func() error {
				out[stream] = seq
				return nil
			})
			return err
		})
	})
	return out, err
}

// Step is a checkpoint on its way: from where the caller believes that it stands.
type Step struct {
	Stream   string
	From, To uint64
}

// Advance moves checkpoints, of which each must stand where the caller believes; else it returns ErrMoved.
// From then on the streams are this transaction's.
func (tx *Tx) Advance(ctx context.Context, steps ...Step) error {
	var moved error
	b := &pgx.Batch{}
	for _, step := range steps {
		b.Queue(`
			insert into projection_checkpoints as c (stream, last_seq, updated_at) values ($1, $3, now())
			on conflict (stream) do update set last_seq = excluded.last_seq, updated_at = excluded.updated_at where c.last_seq = $2`,
			step.Stream, signed(step.From), signed(step.To)).Exec(func(tag pgconn.CommandTag) error {
			// A missing row counts as zero.
			if tag.RowsAffected() == 0 {
				moved = fmt.Errorf("advance %s from %d to %d: %w", step.Stream, step.From, step.To, ErrMoved)
			}
			return nil
		})
	}
	if err := tx.tx.SendBatch(ctx, b).Close(); err != nil {
		return fault("advance", err)
	}
	return moved
}

// PutExecutions writes rows as the projector has folded them, unless the tables know more, and keeps the commits that
// led to them, for ever or until their retention ends. from holds the status that each row had before by its DocumentKey, "" for none.
func (tx *Tx) PutExecutions(ctx context.Context, rows []*Execution, from map[string]string, commits []Archived) error {
	b := &pgx.Batch{}
	c := columnsOf(rows)
	b.Queue(putExecutionsSQL, c.args()...)
	if len(c.tagged) > 0 {
		b.Queue(`
			insert into execution_tags (tenant_id, tag, created_at, execution_id)
			select * from unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) on conflict do nothing`,
			c.tagTenants, c.tags1, c.tagTimes, c.tagged)
	}
	queueExecutionCounts(b, rows, from)
	queueArchive(b, commits)
	return fault("write executions", tx.tx.SendBatch(ctx, b).Close())
}

const putExecutionsSQL = `
	insert into executions as x (
		id, tenant_id, workflow_id, workflow_version, workflow_name, spec_hash, status,
		initial_state, initial_state_ref, final_state, final_state_ref, error, error_code, error_message,
		timeout_scope, timeout_node, timeout_elapsed_ms, tags, actor, request_id, rerun_of,
		created_at, started_at, completed_at, deadline, duration_ms, tokens_used, cost, nodes_run, runs,
		partition, first_seq, last_seq)
	select id, tenant_id, workflow_id, workflow_version, workflow_name, spec_hash, status,
		initial_state::jsonb, initial_state_ref, final_state::jsonb, final_state_ref, error::jsonb, error_code, error_message,
		timeout_scope, timeout_node, timeout_elapsed_ms, array(select jsonb_array_elements_text(tags::jsonb)), actor, request_id, rerun_of,
		created_at, started_at, completed_at, deadline, duration_ms, tokens_used, cost::numeric, nodes_run, runs,
		partition, first_seq, last_seq
	from unnest(
		$1::text[], $2::text[], $3::text[], $4::int[], $5::text[], $6::text[], $7::text[],
		$8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], $14::text[],
		$15::text[], $16::text[], $17::bigint[], $18::text[], $19::text[], $20::text[], $21::text[],
		$22::timestamptz[], $23::timestamptz[], $24::timestamptz[], $25::timestamptz[], $26::bigint[], $27::bigint[], $28::text[], $29::int[], $30::text[],
		$31::smallint[], $32::bigint[], $33::bigint[]
	) as n (
		id, tenant_id, workflow_id, workflow_version, workflow_name, spec_hash, status,
		initial_state, initial_state_ref, final_state, final_state_ref, error, error_code, error_message,
		timeout_scope, timeout_node, timeout_elapsed_ms, tags, actor, request_id, rerun_of,
		created_at, started_at, completed_at, deadline, duration_ms, tokens_used, cost, nodes_run, runs,
		partition, first_seq, last_seq)
	on conflict (id, tenant_id) do update set
		workflow_id = excluded.workflow_id, workflow_version = excluded.workflow_version, workflow_name = excluded.workflow_name,
		spec_hash = excluded.spec_hash, status = excluded.status,
		initial_state = excluded.initial_state, initial_state_ref = excluded.initial_state_ref,
		final_state = excluded.final_state, final_state_ref = excluded.final_state_ref,
		error = excluded.error, error_code = excluded.error_code, error_message = excluded.error_message,
		timeout_scope = excluded.timeout_scope, timeout_node = excluded.timeout_node, timeout_elapsed_ms = excluded.timeout_elapsed_ms,
		tags = excluded.tags, actor = excluded.actor, request_id = excluded.request_id, rerun_of = excluded.rerun_of,
		created_at = excluded.created_at, started_at = excluded.started_at, completed_at = excluded.completed_at, deadline = excluded.deadline,
		duration_ms = excluded.duration_ms, tokens_used = excluded.tokens_used, cost = excluded.cost, nodes_run = excluded.nodes_run,
		runs = excluded.runs, nodes = null, partition = excluded.partition, first_seq = excluded.first_seq, last_seq = excluded.last_seq
	where x.last_seq < excluded.last_seq`

// executionArrays are the columns of many executions.
type executionArrays struct {
	id, tenant, workflowName, specHash, status, actor, request, cost, tags                         []string
	workflow, initial, initialRef, final, finalRef, failure, code, message, scope, at, rerun, runs []*string
	version                                                                                        []*int32
	elapsed, duration                                                                              []*int64
	created                                                                                        []time.Time
	started, completed, deadline                                                                   []*time.Time
	tokens, first, last                                                                            []int64
	nodesRun                                                                                       []int32
	partition                                                                                      []int16

	tagTenants, tags1, tagged []string
	tagTimes                  []time.Time
}

func (c *executionArrays) args() []any {
	return []any{
		c.id, c.tenant, c.workflow, c.version, c.workflowName, c.specHash, c.status,
		c.initial, c.initialRef, c.final, c.finalRef, c.failure, c.code, c.message,
		c.scope, c.at, c.elapsed, c.tags, c.actor, c.request, c.rerun,
		c.created, c.started, c.completed, c.deadline, c.duration, c.tokens, c.cost, c.nodesRun, c.runs,
		c.partition, c.first, c.last,
	}
}

func columnsOf(rows []*Execution) *executionArrays {
	c := &executionArrays{}
	for _, x := range rows {
		c.id, c.tenant = append(c.id, string(x.ID)), append(c.tenant, string(x.Tenant))
		c.workflow, c.workflowName = append(c.workflow, textOrNull(x.WorkflowID)), append(c.workflowName, Text(x.WorkflowName))
		var version *int32
		if x.WorkflowID != "" {
			v := int32(min(x.WorkflowVersion, 1<<31-1)) //nolint:gosec // bounded
			version = &v
		}
		c.version, c.specHash, c.status = append(c.version, version), append(c.specHash, Text(x.SpecHash)), append(c.status, x.Status)
		c.initial, c.initialRef = append(c.initial, rawOrNull(x.InitialState)), append(c.initialRef, textOrNull(x.InitialStateRef))
		c.final, c.finalRef = append(c.final, rawOrNull(x.FinalState)), append(c.finalRef, textOrNull(x.FinalStateRef))
		var failure, code, message *string
		if x.Error != nil {
			failure, code, message = encoded(x.Error), textOrNull(string(x.Error.Code)), textOrNull(Text(x.Error.Message))
		}
		c.failure, c.code, c.message = append(c.failure, failure), append(c.code, code), append(c.message, message)
		var scope, at *string
		var elapsed *int64
		if x.Timeout != nil {
			scope, at, elapsed = textOrNull(x.Timeout.Scope), textOrNull(Text(x.Timeout.Node)), &x.Timeout.ElapsedMS
		}
		c.scope, c.at, c.elapsed = append(c.scope, scope), append(c.at, at), append(c.elapsed, elapsed)
		tags := make([]string, len(x.Tags))
		for i, tag := range x.Tags {
			tags[i] = Text(tag)
			c.tagTenants, c.tags1 = append(c.tagTenants, string(x.Tenant)), append(c.tags1, tags[i])
			c.tagTimes, c.tagged = append(c.tagTimes, x.CreatedAt.Time), append(c.tagged, string(x.ID))
		}
		c.tags = append(c.tags, *encoded(tags))
		c.actor, c.request = append(c.actor, Text(x.Actor)), append(c.request, Text(x.RequestID))
		c.rerun = append(c.rerun, textOrNull(string(x.RerunOf)))
		c.created, c.started = append(c.created, x.CreatedAt.Time), append(c.started, timeOrNull(x.StartedAt))
		c.completed, c.deadline = append(c.completed, timeOrNull(x.CompletedAt)), append(c.deadline, timeOrNull(x.Deadline))
		c.duration, c.tokens = append(c.duration, x.DurationMS), append(c.tokens, x.TokensUsed)
		c.cost = append(c.cost, Decimal(string(x.Cost)))
		c.nodesRun = append(c.nodesRun, int32(min(x.NodesRun, 1<<31-1))) //nolint:gosec // bounded
		c.runs = append(c.runs, encodeRuns(x.CreatedAt, x.Nodes))
		c.partition = append(c.partition, int16(x.Partition)) //nolint:gosec // a count of partitions is small
		c.first, c.last = append(c.first, signed(x.FirstSeq)), append(c.last, signed(x.LastSequence))
	}
	return c
}

// encoded is a value of ours as JSON that Postgres takes.
func encoded(v any) *string {
	raw, err := json.Marshal(v)
	if err != nil {
		raw = []byte(`{"unstorable":true}`) // a cost that is no number; the archive has it
	}
	return rawOrNull(raw)
}

func rawOrNull(raw json.RawMessage) *string {
	if raw == nil {
		return nil
	}
	s := string(JSON(raw))
	return &s
}

// queueExecutionCounts counts rows that went from one status to another. A shard for each partition, each of which has one
// projector: nobody waits for another tenant's.
func queueExecutionCounts(b *pgx.Batch, rows []*Execution, from map[string]string) {
	change := executionCounts{}
	for _, x := range rows {
		if old := from[DocumentKey(x.Tenant, string(x.ID))]; old != x.Status {
			if old != "" {
				change[executionCount{x.Tenant, old, x.Partition}]--
			}
			change[executionCount{x.Tenant, x.Status, x.Partition}]++
		}
	}
	change.queue(b)
}

func queueArchive(b *pgx.Batch, list []Archived) {
	var (
		partition      = make([]int16, len(list))
		seq, previous  = make([]int64, len(list)), make([]int64, len(list))
		tenant, id, ce = make([]string, len(list)), make([]string, len(list)), make([]string, len(list))
		stored         = make([]time.Time, len(list))
		body           = make([][]byte, len(list))
		packed         []byte
	)
	for i, a := range list {
		partition[i] = int16(a.Key.Partition) //nolint:gosec // a count of partitions is small
		seq[i], previous[i] = signed(a.Seq), signed(a.Previous)
		tenant[i], id[i], ce[i] = string(a.Key.Tenant), string(a.Key.ID), Text(a.CommitID)
		at := len(packed)
		packed = archive.Append(packed, a.Body)
		stored[i], body[i] = a.Stored, packed[at:len(packed):len(packed)]
	}
	b.Queue(`
		insert into execution_events (partition, seq, tenant_id, execution_id, previous, commit_id, stored_at, body)
		select * from unnest($1::smallint[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::text[], $7::timestamptz[], $8::bytea[])
		on conflict do nothing`, partition, seq, tenant, id, previous, ce, stored, body)
}
