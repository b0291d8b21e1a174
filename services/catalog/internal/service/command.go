package service

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// verb is how one command is carried out.
type verb struct {
	kind protocol.CatalogKind
	// target reads the command and names the document that it is about.
	target func(c protocol.Command) (id string, err error)
	// prepare runs before the document is locked, for what takes long.
	prepare func(ctx context.Context, s *Service, c protocol.Command) error
	// decide checks what must hold and says what happens; nil when there is nothing to change.
	decide func(ctx context.Context, s *Service, r *room) (*decision, error)
}

// verbs are all that catalog can be asked to do.
var verbs = map[protocol.Verb]verb{
	protocol.VerbTenantCreate:   {kind: protocol.KindTenant, target: ownTenant, decide: createTenant},
	protocol.VerbTenantUpdate:   {kind: protocol.KindTenant, target: ownTenant, decide: updateTenant},
	protocol.VerbKeyCreate:      {kind: protocol.KindKey, target: newID("key"), decide: createKey},
	protocol.VerbKeyUpdate:      {kind: protocol.KindKey, target: givenID, decide: updateKey},
	protocol.VerbKeyRotate:      {kind: protocol.KindKey, target: givenID, decide: rotateKey},
	protocol.VerbKeyRevoke:      {kind: protocol.KindKey, target: givenID, decide: revokeKey},
	protocol.VerbWorkflowCreate: {kind: protocol.KindWorkflow, target: newID("wf"), decide: createWorkflow},
	protocol.VerbWorkflowUpdate: {kind: protocol.KindWorkflow, target: givenID, decide: updateWorkflow},
	protocol.VerbWorkflowDelete: {kind: protocol.KindWorkflow, target: givenID, prepare: awaitExecutions, decide: deleteWorkflow},
	protocol.VerbSourceCreate:   {kind: protocol.KindSource, target: sourceID, decide: createSource},
	protocol.VerbSourceUpdate:   {kind: protocol.KindSource, target: givenID, decide: updateSource},
	protocol.VerbSourceDelete:   {kind: protocol.KindSource, target: givenID, prepare: awaitCatalog, decide: deleteSource},
}

// room is a document and a command on it, alone with each other.
type room struct {
	tx     *postgres.Tx
	cmd    protocol.Command
	kind   protocol.CatalogKind
	id     string
	at     protocol.Time         // of the command
	last   protocol.CatalogEvent // the document's newest event; without a type when there is none
	tenant string                // status of the tenant, "" for an unknown one
}

// decision is an event about to happen.
type decision struct {
	event    string // its type
	document any
}

// exists tells whether the document is there and not deleted.
func (r *room) exists() bool { return r.last.Type != "" && !r.last.Deleted() }

// document reads the document as it is now. An id that the tenant has not is FORBIDDEN when it is
// another's.
func document[T any](ctx context.Context, s *Service, r *room) (T, error) {
	var v T
	if !r.exists() {
		exists, err := s.store.Exists(ctx, r.cmd.Tenant, string(r.kind), r.id)
		if err != nil {
			return v, err
		}
		return v, postgres.Missing(string(r.kind), r.id, exists)
	}
	if err := unmarshal(r.last.Document, &v); err != nil {
		return v, fmt.Errorf("read %s %s: %w", r.kind, r.id, err)
	}
	return v, nil
}

// unmarshal keeps numbers as they are written.
func unmarshal(raw []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	return d.Decode(into)
}

// data reads what a command asks for.
func data[T any](c protocol.Command) (T, error) {
	var v T
	if err := unmarshal(c.Data, &v); err != nil {
		return v, refuse(protocol.CodeMalformed, "", "command "+string(c.Verb)+": "+err.Error())
	}
	return v, nil
}

func ownTenant(c protocol.Command) (string, error) { return string(c.Tenant), nil }

func givenID(c protocol.Command) (string, error) {
	v, err := data[struct {
		ID string `json:"id"`
	}](c)
	if err == nil && (v.ID == "" || len(v.ID) > maxID) {
		err = refuse(protocol.CodeNotFound, "id", "there is no such id")
	}
	return v.ID, err
}

// maxID bounds ids that people choose.
const maxID = 200

// newID takes the id that the command brings, or makes one: the same one each time the command comes.
func newID(prefix string) func(protocol.Command) (string, error) {
	return func(c protocol.Command) (string, error) {
		v, err := data[struct {
			ID string `json:"id"`
		}](c)
		if err != nil {
			return "", err
		}
		if v.ID == "" {
			return derivedID(prefix, c), nil
		}
		if err := typeid.Check(prefix, v.ID); err != nil {
			return "", refuse(protocol.CodeInvalid, "id", err.Error())
		}
		return v.ID, nil
	}
}

func derivedID(prefix string, c protocol.Command) string {
	sum := sha256.Sum256([]byte(c.ID))
	var u uuid.UUID
	copy(u[:], sum[:])
	var ms [8]byte
	binary.BigEndian.PutUint64(ms[:], uint64(max(c.At.UnixMilli(), 0)))
	copy(u[:6], ms[2:])
	u[6] = u[6]&0x0F | 0x70 // version 7: ids sort by the time of the command
	u[8] = u[8]&0x3F | 0x80
	return typeid.Format(prefix, u)
}

// Commands carries out commands, several at a time, until ctx ends.
func (s *Service) Commands(ctx context.Context, concurrency int) error {
	return s.bus.Commands(ctx, concurrency, func(m *bus.CommandMessage) {
		// What is in hand is finished when the service stops.
		work, cancel := context.WithTimeout(m.Context(context.WithoutCancel(ctx)), commandTimeout)
		defer cancel()
		work, done := s.bus.Trace(work, "command "+s.verbLabel(m.Verb), trace.SpanKindConsumer, attribute.String("agentflow.tenant", string(m.Tenant)))
		done(s.handle(work, m))
	})
}

// commandTimeout bounds one attempt; the queue hands a command out again after 30 s.
const commandTimeout = 20 * time.Second

// handle carries out a command and answers it. The error is what is told of it.
func (s *Service) handle(ctx context.Context, m *bus.CommandMessage) error {
	log := s.log.With(zap.String("command_id", m.ID), zap.String("verb", string(m.Verb)), zap.String("tenant", string(m.Tenant)), zap.String("request_id", m.RequestID))
	begun := s.now()
	fresh := m.Stored.IsZero() || begun.Sub(m.Stored) < protocol.CommandPatience
	answer, err := s.carryOutSafely(ctx, log, m.Command, fresh)
	s.metrics.seconds.WithLabelValues(s.verbLabel(m.Verb)).Observe(s.now().Sub(begun).Seconds())

	outcome := "done"
	told := outward(err)
	switch {
	case told == nil:
	case protocol.CodeOf(told) == protocol.CodeUnavailable && fresh:
		s.metrics.commands.WithLabelValues(s.verbLabel(m.Verb), "again").Inc()
		log.Warn("command put off", zap.Int("delivered", m.Delivered), zap.Error(err))
		if err := m.Again(min(time.Duration(m.Delivered)*100*time.Millisecond, 2*time.Second)); err != nil {
			log.Warn("command not handed back; it comes again by itself", zap.Error(err))
		}
		return told
	case protocol.CodeOf(told) == protocol.CodeInternal:
		outcome = "failed"
		if !errors.Is(err, errPanicked) { // which was told of with its stack
			log.Error("command failed", zap.Error(err))
		}
	default:
		outcome = "refused"
	}
	s.metrics.commands.WithLabelValues(s.verbLabel(m.Verb), outcome).Inc()
	body, err := bus.EncodeReply(answer, told)
	if err == nil {
		err = m.Done(body)
	}
	if err != nil {
		log.Warn("command answer not sent; it comes again", zap.Error(err))
	}
	return told
}

func (s *Service) verbLabel(v protocol.Verb) string {
	if _, ok := verbs[v]; ok {
		return string(v)
	}
	return "unknown"
}

var errPanicked = errors.New("panic")

// carryOutSafely turns a panic into an error: a command that breaks its handler would come again
// and break the next one.
func (s *Service) carryOutSafely(ctx context.Context, log *zap.Logger, c protocol.Command, fresh bool) (answer json.RawMessage, err error) {
	defer func() {
		if v := recover(); v != nil {
			answer, err = nil, fmt.Errorf("%w: %v", errPanicked, v)
			log.Error("command panicked", zap.Error(err), zap.ByteString("stack", debug.Stack()))
		}
	}()
	return s.CarryOut(ctx, c, fresh)
}

// errBehind says that the tables miss more than the newest event of a document: the projector must
// come first.
var errBehind = fmt.Errorf("%w: the tables are behind the log", postgres.ErrUnavailable)

// CarryOut carries out a command, or answers it as before. A command that is no longer fresh is
// only answered. Refusals are *protocol.Error.
func (s *Service) CarryOut(ctx context.Context, c protocol.Command, fresh bool) (json.RawMessage, error) {
	v, ok := verbs[c.Verb]
	if !ok {
		return nil, refuse(protocol.CodeMalformed, "", fmt.Sprintf("there is no command %q", c.Verb))
	}
	if err := c.Tenant.Check(); err != nil {
		return nil, err
	}
	if c.ID == "" || len(c.ID) > maxID || postgres.Text(c.ID) != c.ID {
		return nil, refuse(protocol.CodeMalformed, "", "a command needs an id")
	}
	id, err := v.target(c)
	if err != nil {
		return nil, err
	}
	if postgres.Text(id) != id {
		return nil, refuse(protocol.CodeInvalid, "id", "an id is text without U+0000")
	}
	if v.prepare != nil && fresh {
		if err := v.prepare(ctx, s, c); err != nil {
			return nil, err
		}
	}
	for try := 0; ; try++ {
		answer, err := s.attempt(ctx, v, c, id, fresh)
		var refusal *protocol.Error
		switch {
		case errors.Is(err, bus.ErrConflict) && try < 10:
			continue // somebody else wrote in between: look again
		case errors.Is(err, bus.ErrConflict):
			return nil, fmt.Errorf("%w: %w", postgres.ErrUnavailable, err)
		case errors.As(err, &refusal) && refusal.Code != protocol.CodeUnavailable:
			if err := s.store.Refuse(ctx, c.Tenant, c.ID, protocol.At(s.now()), refusal); err != nil {
				return nil, err
			}
			return nil, refusal
		}
		return answer, err
	}
}

func (s *Service) attempt(ctx context.Context, v verb, c protocol.Command, id string, fresh bool) (answer json.RawMessage, err error) {
	err = s.store.Tenant(ctx, c.Tenant, func(tx *postgres.Tx) error {
		answer, err = s.inRoom(ctx, tx, v, c, id, fresh)
		return err
	})
	if err != nil {
		return nil, err
	}
	return answer, nil
}

func (s *Service) inRoom(ctx context.Context, tx *postgres.Tx, v verb, c protocol.Command, id string, fresh bool) (json.RawMessage, error) {
	entry, err := tx.Enter(ctx, c.Tenant, v.kind, id, c.ID)
	if err != nil {
		return nil, err
	}
	switch {
	case entry.Answer != nil:
		return entry.Answer, nil
	case entry.Refusal != nil:
		return nil, entry.Refusal
	}
	last, seq, err := s.bus.LastCatalog(ctx, c.Tenant, v.kind, id)
	if errors.Is(err, bus.ErrNotFound) {
		err = nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", bus.ErrUnavailable, err)
	}
	current := entry.Current
	if seq > current.Seq {
		// The event is in the log, and whoever wrote it died before its row was.
		if last.Revision != current.Revision+1 {
			return nil, errBehind
		}
		if current, err = s.apply(ctx, tx, last, seq, current); err != nil {
			return nil, err
		}
	}
	if last.CommandID == c.ID {
		return maskedDocument(v.kind, last.Document)
	}
	if !fresh {
		return nil, refuse(protocol.CodeUnavailable, "", "the command came too late to be carried out; send it again")
	}
	at := protocol.At(c.At.Time)
	if c.At.IsZero() {
		at = protocol.At(s.now())
	}
	r := &room{tx: tx, cmd: c, kind: v.kind, id: id, at: at, last: last, tenant: entry.TenantStatus}
	d, err := v.decide(ctx, s, r)
	if err != nil {
		return nil, err
	}
	if d == nil {
		return maskedDocument(v.kind, last.Document)
	}
	doc, err := json.Marshal(d.document)
	if err != nil {
		return nil, fmt.Errorf("encode %s %s: %w", v.kind, id, err)
	}
	event := protocol.CatalogEvent{
		Type: d.event, At: at, Tenant: c.Tenant, Kind: v.kind, ID: id, Revision: last.Revision + 1,
		CommandID: c.ID, RequestID: c.RequestID, Actor: c.Actor, Document: doc,
	}
	if err := s.step(ctx, "append"); err != nil {
		return nil, err
	}
	newSeq, err := s.bus.AppendCatalog(ctx, event, seq)
	if err != nil {
		return nil, err
	}
	if err := s.step(ctx, "appended"); err != nil {
		return nil, err
	}
	if _, err := s.apply(ctx, tx, event, newSeq, current); err != nil {
		return nil, err
	}
	if err := s.step(ctx, "applied"); err != nil {
		return nil, err
	}
	return maskedDocument(v.kind, doc)
}
