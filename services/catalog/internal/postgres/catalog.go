package postgres

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Current is a catalog document as the tables have it.
type Current struct {
	Seq      uint64 // of the event that made it so; 0 when there is none
	Revision int
	Document json.RawMessage
}

// Entry is what a command finds when it enters the room of its document: nobody else is in there
// until the transaction ends.
type Entry struct {
	Answer       json.RawMessage // what the same command was answered before, nil if it was not
	Refusal      *protocol.Error // why the same command was refused before
	TenantStatus string          // "" when there is no such tenant
	Current      Current
}

const lockSQL = "select pg_advisory_xact_lock(hashtextextended($1, 0))"

func lockName(kind protocol.CatalogKind, t protocol.TenantID, id string) string {
	return string(kind) + "/" + string(t) + "/" + id
}

// Enter locks a document and reads all that a command on it must know.
func (tx *Tx) Enter(ctx context.Context, t protocol.TenantID, kind protocol.CatalogKind, id, command string) (Entry, error) {
	var e Entry
	b := &pgx.Batch{}
	b.Queue(lockSQL, lockName(kind, t, id))
	b.Queue("select after from audit_log where command_id = $1 and tenant_id = $2 and kind = $3 and target_id = $4 limit 1", command, t, kind, id).
		Query(one(func(r pgx.Rows) error { return r.Scan(&e.Answer) }))
	b.Queue("select error from command_refusals where command_id = $1 and tenant_id = $2", command, t).
		Query(one(func(r pgx.Rows) error { return r.Scan(&e.Refusal) }))
	b.Queue("select status from tenants where id = $1", t).
		Query(one(func(r pgx.Rows) error { return r.Scan(&e.TenantStatus) }))
	if err := queueCurrent(b, t, kind, id, &e.Current); err != nil {
		return Entry{}, err
	}
	if err := tx.tx.SendBatch(ctx, b).Close(); err != nil {
		return Entry{}, fault(fmt.Sprintf("enter %s %s", kind, id), err)
	}
	return e, nil
}

// Hold keeps documents as they are until the transaction ends, together with others who only hold.
func (tx *Tx) Hold(ctx context.Context, t protocol.TenantID, kind protocol.CatalogKind, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	b := &pgx.Batch{}
	for _, id := range ids {
		b.Queue("select pg_advisory_xact_lock_shared(hashtextextended($1, 0))", lockName(kind, t, id))
	}
	return fault("hold", tx.tx.SendBatch(ctx, b).Close())
}

// Current locks a document and reads it.
func (tx *Tx) Current(ctx context.Context, t protocol.TenantID, kind protocol.CatalogKind, id string) (Current, error) {
	var c Current
	b := &pgx.Batch{}
	b.Queue(lockSQL, lockName(kind, t, id))
	if err := queueCurrent(b, t, kind, id, &c); err != nil {
		return Current{}, err
	}
	if err := tx.tx.SendBatch(ctx, b).Close(); err != nil {
		return Current{}, fault(fmt.Sprintf("read %s %s", kind, id), err)
	}
	return c, nil
}

// one reads the only row of a result, if there is one.
func one(scan func(pgx.Rows) error) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		if rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		rows.Close()
		return rows.Err()
	}
}

func queueCurrent(b *pgx.Batch, t protocol.TenantID, kind protocol.CatalogKind, id string, c *Current) error {
	keep := func(document any) (err error) {
		c.Document, err = json.Marshal(document)
		return err
	}
	switch kind {
	case protocol.KindTenant:
		b.Queue("select "+tenantColumns+", revision, last_seq from tenants where id = $1", id).Query(one(func(r pgx.Rows) error {
			v, err := scanTenant(r, &c.Revision, &c.Seq)
			return errors.Join(err, keep(v))
		}))
	case protocol.KindKey:
		b.Queue("select "+keyColumns+", revision, last_seq from api_keys where id = $1 and tenant_id = $2", id, t).Query(one(func(r pgx.Rows) error {
			v, err := scanKey(r, &c.Revision, &c.Seq)
			return errors.Join(err, keep(v))
		}))
	case protocol.KindWorkflow:
		b.Queue("select "+workflowColumns+", spec, revision, last_seq from workflows where id = $1 and tenant_id = $2", id, t).Query(one(func(r pgx.Rows) error {
			var spec json.RawMessage
			v, err := scanWorkflow(r, &spec, &c.Revision, &c.Seq)
			v.Spec = spec
			return errors.Join(err, keep(v))
		}))
	case protocol.KindSource:
		b.Queue("select "+sourceColumns+", revision, last_seq from sources where id = $1 and tenant_id = $2", id, t).Query(one(func(r pgx.Rows) error {
			v, err := scanSource(r, &c.Revision, &c.Seq)
			return errors.Join(err, keep(v))
		}))
	default:
		return fmt.Errorf("catalog documents of kind %q are unknown", kind)
	}
	return nil
}

// Change is an event on its way into the tables.
type Change struct {
	Event  protocol.CatalogEvent
	Seq    uint64
	Before Current         // as Enter or Current read it
	Audit  Masked          // for the eyes of the audit
	Uses   []string        // kept sources that a workflow names
	Stored json.RawMessage // the document, as Postgres can store it
}

// Masked is a document before and after a change, without its secrets.
type Masked struct {
	Before json.RawMessage // nil on creation
	After  json.RawMessage
}

// Apply brings an event into the tables, unless they have it already. The caller has the document
// to itself, through Enter or Current.
func (tx *Tx) Apply(ctx context.Context, t protocol.TenantID, c Change) error {
	if c.Before.Seq >= c.Seq {
		return nil
	}
	e := c.Event
	b := &pgx.Batch{}
	var err error
	switch e.Kind {
	case protocol.KindTenant:
		err = queuePut(b, t, c, putTenant)
	case protocol.KindKey:
		err = queuePut(b, t, c, putKey)
	case protocol.KindWorkflow:
		err = queuePut(b, t, c, putWorkflow)
	case protocol.KindSource:
		err = queuePut(b, t, c, putSource)
	default:
		err = fmt.Errorf("catalog documents of kind %q are unknown", e.Kind)
	}
	if err != nil {
		return fmt.Errorf("apply %s %s: %w", e.Type, e.ID, err)
	}
	queueAudit(b, t, protocol.AuditRecord{
		ID: AuditID(c.Seq), At: e.At, Actor: e.Actor, Action: actionOf(e.Type), Kind: e.Kind, Target: e.ID,
		RequestID: e.RequestID, CommandID: e.CommandID, Before: c.Audit.Before, After: c.Audit.After,
	}, c.Seq)
	return fault(fmt.Sprintf("apply %s %s", e.Type, e.ID), tx.tx.SendBatch(ctx, b).Close())
}

func queuePut[T any](b *pgx.Batch, t protocol.TenantID, c Change, put func(b *pgx.Batch, t protocol.TenantID, v, old *T, c Change)) error {
	var v T
	if err := json.Unmarshal(c.Stored, &v); err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	var old *T
	if c.Before.Seq > 0 {
		old = new(T)
		if err := json.Unmarshal(c.Before.Document, old); err != nil {
			return fmt.Errorf("read document of before: %w", err)
		}
	}
	put(b, t, &v, old, c)
	return nil
}

// Refuse remembers why a command was refused, so that it is refused again when it comes again.
func (s *Store) Refuse(ctx context.Context, t protocol.TenantID, command string, at protocol.Time, refusal *protocol.Error) error {
	return s.write(ctx, t, func(b *pgx.Batch) {
		b.Queue("insert into command_refusals values ($1, $2, $3, $4) on conflict do nothing", command, t, at.Time, refusal)
	})
}

// CatalogSeqs tells up to which event the tables have each of some documents.
func (s *Store) CatalogSeqs(ctx context.Context, events []protocol.CatalogEvent) (map[protocol.CatalogKind]map[string]uint64, error) {
	ids, tenants := map[protocol.CatalogKind][]string{}, map[protocol.CatalogKind][]string{}
	for _, e := range events {
		ids[e.Kind] = append(ids[e.Kind], e.ID)
		tenants[e.Kind] = append(tenants[e.Kind], string(e.Tenant))
	}
	out := map[protocol.CatalogKind]map[string]uint64{}
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		for kind, table := range map[protocol.CatalogKind]string{
			protocol.KindKey: "api_keys", protocol.KindWorkflow: "workflows", protocol.KindSource: "sources", protocol.KindTenant: "tenants",
		} {
			if len(ids[kind]) == 0 {
				continue
			}
			seqs := map[string]uint64{}
			out[kind] = seqs
			sql := "select t.tenant_id, t.id, t.last_seq from " + table + " t join unnest($1::text[], $2::text[]) as w(id, tenant_id) using (id, tenant_id)"
			if kind == protocol.KindTenant {
				sql = "select t.id, t.id, t.last_seq from tenants t join unnest($1::text[], $2::text[]) as w(id, tenant_id) using (id)"
			}
			b.Queue(sql, ids[kind], tenants[kind]).Query(func(rows pgx.Rows) error {
				var (
					tenant, id string
					seq        uint64
				)
				_, err := pgx.ForEachRow(rows, []any{&tenant, &id, &seq}, func() error {
					seqs[DocumentKey(protocol.TenantID(tenant), id)] = seq
					return nil
				})
				return err
			})
		}
	})
	return out, err
}

// DocumentKey names a document within its kind.
func DocumentKey(t protocol.TenantID, id string) string { return string(t) + "/" + id }

// signed is a sequence as Postgres keeps it. Streams do not get that long.
func signed(seq uint64) int64 {
	if seq > math.MaxInt64 {
		return math.MaxInt64
	}
	return int64(seq)
}
