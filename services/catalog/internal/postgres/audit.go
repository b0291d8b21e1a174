package postgres

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// AuditID names the record of a catalog event: made again from the log, it is the same.
func AuditID(seq uint64) string { return fmt.Sprintf("cat_%016d", seq) }

// actionOf is the action of an event without its version: workflow_created.
func actionOf(eventType string) string {
	action, _, _ := strings.Cut(eventType, ".")
	return action
}

func queueAudit(b *pgx.Batch, t protocol.TenantID, a protocol.AuditRecord, seq uint64) {
	var number *int64
	if seq != 0 {
		n := signed(seq)
		number = &n
	}
	raw := func(doc json.RawMessage) *string {
		if doc == nil {
			return nil
		}
		s := string(doc)
		return &s
	}
	b.Queue(`
		insert into audit_log (id, seq, at, tenant_id, actor, action, kind, target_id, request_id, command_id, before, after, reason)
		values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) on conflict do nothing`,
		a.ID, number, a.At.Time, t, a.Actor, a.Action, a.Kind, a.Target, a.RequestID, a.CommandID, raw(a.Before), raw(a.After), a.Reason)
}

// RecordAudit adds a record that has no event.
func (s *Store) RecordAudit(ctx context.Context, t protocol.TenantID, a protocol.AuditRecord) error {
	return s.write(ctx, t, func(b *pgx.Batch) { queueAudit(b, t, a, 0) })
}

// ListAudit lists what was written: in one tenant, or, when the request says All, everywhere.
func (s *Store) ListAudit(ctx context.Context, req protocol.ListAuditRequest) (protocol.List[protocol.AuditRecord], error) {
	var l protocol.List[protocol.AuditRecord]
	p, err := pageOf(req.Page)
	if err != nil {
		return l, err
	}
	who := req.Tenant
	var q query
	switch {
	case req.All && req.Tenant == "":
		who = platform
	case req.All:
		return l, &protocol.Error{Code: protocol.CodeInvalid, Field: "all", Message: "all goes with no tenant"}
	default:
		q.and("tenant_id = ?", req.Tenant)
	}
	for _, filter := range [][2]string{{"actor", req.Actor}, {"action", req.Action}, {"kind", string(req.Kind)}, {"target_id", req.ID}} {
		if filter[1] == "" {
			continue
		}
		if !clean(filter[1]) {
			return l, &protocol.Error{Code: protocol.CodeInvalid, Field: filter[0], Message: filter[0] + " must be text"}
		}
		q.and(filter[0]+" = ?", filter[1])
	}
	within(&q, "at", req.Since, req.Until)
	count, countArgs := "select count(*) from audit_log where "+q.conditions(), q.args
	sql := q.list(auditColumns, "audit_log", "at", "id", p)
	err = s.read(ctx, who, func(b *pgx.Batch) {
		if p.after == nil {
			b.Queue(count, countArgs...).QueryRow(func(r pgx.Row) error { return r.Scan(&l.Total) })
		}
		b.Queue(sql, q.args...).Query(collect(&l, p, func(r pgx.Rows) (protocol.AuditRecord, position, error) {
			var (
				a  protocol.AuditRecord
				at time.Time
			)
			err := r.Scan(&a.ID, &at, &a.Tenant, &a.Actor, &a.Action, &a.Kind, &a.Target, &a.RequestID, &a.CommandID, &a.Before, &a.After, &a.Reason)
			a.At = protocol.At(at)
			return a, position{a.At.Time, a.ID}, err
		}))
	})
	return l, err
}

// auditColumns leave large specs out: a page of them would not fit into an answer, and every
// version of a workflow can be read by its number.
const auditColumns = `id, at, tenant_id, actor, action, kind, target_id, request_id, command_id,
	case when octet_length(before::text) > 16384 then before - 'spec' || jsonb_build_object('spec_bytes', octet_length(before->>'spec')) else before end,
	case when octet_length(after::text) > 16384 then after - 'spec' || jsonb_build_object('spec_bytes', octet_length(after->>'spec')) else after end,
	reason`

func within(q *query, column string, since, until protocol.Time) {
	if !since.IsZero() {
		q.and(column+" >= ?", since.Time)
	}
	if !until.IsZero() {
		q.and(column+" < ?", until.Time)
	}
}
