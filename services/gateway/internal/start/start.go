package start

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// inlineInput is the largest initial state that stands in the event itself: a commit stays small.
const inlineInput = 256 << 10

// appendWait bounds the write of the requested event.
const appendWait = 5 * time.Second

// log is the part of the bus that keeps executions, and what is too large for their commits.
type log interface {
	executions
	buckets
}

type executions interface {
	Key(t protocol.TenantID, id protocol.ExecutionID) protocol.ExecutionKey
	Append(ctx context.Context, key protocol.ExecutionKey, after uint64, c protocol.Commit) (uint64, error)
	Last(ctx context.Context, key protocol.ExecutionKey) (protocol.Record, error)
	Follow(ctx context.Context, key protocol.ExecutionKey, after uint64, fn func(protocol.Record) bool) error
	Expect() (subject string, reply <-chan []byte, release func(), err error)
	State(ctx context.Context, stream string) (bus.StreamState, error)
}

type buckets interface {
	PutSpec(ctx context.Context, t protocol.TenantID, hash string, doc []byte) error
	GetSpec(ctx context.Context, t protocol.TenantID, hash string) ([]byte, error)
	PutObject(ctx context.Context, t protocol.TenantID, data []byte) (string, error)
	GetObject(ctx context.Context, t protocol.TenantID, name string, limit int64) ([]byte, error)
	Claim(ctx context.Context, t protocol.TenantID, key string, value []byte) ([]byte, bool, error)
	Claimed(ctx context.Context, t protocol.TenantID, key string) ([]byte, error)
}

// catalog finds what a tenant has stored.
type catalog interface {
	Workflow(ctx context.Context, t protocol.TenantID, id string) (*protocol.Workflow, error)
	Source(ctx context.Context, t protocol.TenantID, id string) (*protocol.KeptSource, error)
}

// archive finds executions that may have left the log.
type archive interface {
	// Commits are those of an execution after a sequence, wherever they stand.
	Commits(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID, after uint64) ([]protocol.Record, error)
	// Ended returns nil for an execution that it does not know.
	Ended(ctx context.Context, t protocol.TenantID, id protocol.ExecutionID) (protocol.Event, error)
}

// Defaults apply where neither the order nor the spec says.
type Defaults struct {
	Timeout       time.Duration
	MaxIterations int
}

// Service starts executions. It is safe for concurrent use.
type Service struct {
	log      log
	catalog  catalog
	archive  archive
	defaults Defaults
	specs    *lru.Cache[specKey, *prepared]
	room     room
	now      func() time.Time
}

// New makes a service over the log, the catalog's documents and the archive.
func New(l log, c catalog, a archive, d Defaults) (*Service, error) {
	specs, err := lru.New[specKey, *prepared](preparedSpecs)
	if err != nil {
		return nil, fmt.Errorf("cache of specs: %w", err)
	}
	return &Service{log: l, catalog: c, archive: a, defaults: d, specs: specs, room: room{parts: map[int]*part{}}, now: time.Now}, nil
}

// Run is an accepted execution.
type Run struct {
	ID       protocol.ExecutionID
	Tenant   protocol.TenantID
	Replayed bool // the order had been given before, under the same idempotency key

	key      protocol.ExecutionKey
	deadline time.Time
	reply    <-chan []byte  // nil when the reply goes elsewhere
	end      protocol.Event // when it is known already
	release  func()
}

// Release gives back what waiting needs. It must be called.
func (r *Run) Release() { r.release() }

// Begin accepts an order: when it returns without an error the execution is in the log.
func (s *Service) Begin(ctx context.Context, o Order) (*Run, error) {
	if o.IdempotencyKey != "" {
		return s.beginOnce(ctx, o)
	}
	req, err := s.request(ctx, &o)
	if err != nil {
		return nil, err
	}
	return s.launch(ctx, o, req, protocol.ExecutionID(typeid.New("exec")))
}

// request makes the first event from an order.
func (s *Service) request(ctx context.Context, o *Order) (protocol.Requested, error) {
	if o.Rerun != nil {
		return s.again(ctx, o)
	}
	req := protocol.Requested{MaxIterations: o.MaxIterations, Actor: o.Actor, RequestID: o.RequestID, Tags: o.Tags}
	raw := o.Spec
	if o.WorkflowID != "" {
		wf, err := s.stored(ctx, *o)
		if err != nil {
			return req, err
		}
		raw = wf.Spec
		req.WorkflowID, req.WorkflowVersion, req.WorkflowName = wf.ID, wf.Version, wf.Name
	}
	p, err := s.prepare(ctx, o.Tenant, raw)
	if err != nil {
		return req, err
	}
	req.SpecHash, req.Spec = p.hash, p.inline
	if req.WorkflowName == "" {
		req.WorkflowName = p.name
	}
	if req.MaxIterations == 0 && p.maxIterations == 0 {
		req.MaxIterations = s.defaults.MaxIterations
	}
	if req.Input, err = s.input(ctx, *o); err != nil {
		return req, err
	}
	timeout := firstPositive(o.Timeout, p.timeout, s.defaults.Timeout)
	req.Deadline = protocol.At(s.now().Add(timeout))
	return req, nil
}

func firstPositive(durations ...time.Duration) time.Duration {
	for _, d := range durations {
		if d > 0 {
			return d
		}
	}
	return 0
}

// stored finds the workflow of an order, and whether it may be run.
func (s *Service) stored(ctx context.Context, o Order) (*protocol.Workflow, error) {
	wf, err := s.catalog.Workflow(ctx, o.Tenant, o.WorkflowID)
	switch {
	case err != nil:
		return nil, fmt.Errorf("workflow %s: %w", o.WorkflowID, err)
	case wf.Status == protocol.WorkflowDeleted:
		return nil, fmt.Errorf("workflow %s: %w", o.WorkflowID, bus.ErrNotFound)
	case wf.Status == protocol.WorkflowArchived:
		return nil, &protocol.Error{Code: protocol.CodeConflict, Message: "workflow " + wf.ID + " is archived: publish it again to run it"}
	}
	return wf, nil
}

func (s *Service) input(ctx context.Context, o Order) (protocol.Object, error) {
	switch {
	case len(o.Input) == 0:
		return protocol.RawObject(json.RawMessage(`{}`)), nil
	case len(o.Input) <= inlineInput:
		return protocol.RawObject(o.Input), nil
	}
	name, err := s.log.PutObject(ctx, o.Tenant, o.Input)
	if err != nil {
		return protocol.Object{}, fmt.Errorf("keep initial state: %w", errors.Join(bus.ErrUnavailable, err))
	}
	return protocol.ReferTo(name, len(o.Input)), nil
}

// launch appends the requested event under an id. When the execution is there already, someone
// else has launched it for the same order.
func (s *Service) launch(ctx context.Context, o Order, req protocol.Requested, id protocol.ExecutionID) (*Run, error) {
	run := &Run{ID: id, Tenant: o.Tenant, key: s.log.Key(o.Tenant, id), deadline: req.Deadline.Time, release: func() {}}
	if !s.left(ctx, run.key, sizeOf(req)) {
		return nil, fmt.Errorf("start %s: %w", id, bus.ErrLogFull)
	}
	if o.Wait {
		subject, reply, release, err := s.log.Expect()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", id, errors.Join(bus.ErrUnavailable, err))
		}
		req.Reply, run.reply, run.release = subject, reply, release
	}
	// The client may hang up: what it asked for is either written whole or not at all.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendWait)
	defer cancel()
	at := protocol.At(s.now())
	events := append(make([]protocol.Stamped, 0, 1+len(o.reused)), protocol.Stamped{At: at, Event: req})
	for _, e := range o.reused {
		events = append(events, protocol.Stamped{At: at, Event: e})
	}
	_, err := s.log.Append(ctx, run.key, 0, protocol.Commit{ID: typeid.New("cmt"), Events: events})
	switch {
	case err == nil:
		return run, nil
	case errors.Is(err, bus.ErrConflict):
		run.Release()
		run.reply, run.release, run.Replayed = nil, func() {}, true
		return run, nil
	case errors.Is(err, bus.ErrLogFull):
		run.Release()
		return nil, err
	}
	run.Release()
	return nil, &UncertainError{ID: id, Err: errors.Join(bus.ErrUnavailable, err)}
}
