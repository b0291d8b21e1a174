package service

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// queryTimeout bounds one question.
const queryTimeout = 15 * time.Second

// maxState bounds the states that an answer holds; a larger one stays a reference.
const maxState = 1 << 20

// maxNodes bounds the runs of nodes that an answer holds, the newest: loops may make very many.
const maxNodes = 5000

// Serve answers the calls.
func (s *Service) Serve(svc *bus.Service) error {
	return errors.Join(
		handle(svc, protocol.GetWorkflow, func(ctx context.Context, r protocol.GetWorkflowRequest) (protocol.Workflow, error) {
			return s.store.GetWorkflow(ctx, r.Tenant, r.ID, r.Version)
		}),
		handle(svc, protocol.ListWorkflows, s.store.ListWorkflows),
		handle(svc, protocol.ListWorkflowVersions, s.store.ListWorkflowVersions),
		handle(svc, protocol.GetSource, s.getSource),
		handle(svc, protocol.ListSources, s.listSources),
		handle(svc, protocol.GetTenant, func(ctx context.Context, r protocol.GetTenantRequest) (protocol.Tenant, error) {
			return s.store.GetTenant(ctx, r.Tenant)
		}),
		handle(svc, protocol.ListTenants, s.store.ListTenants),
		handle(svc, protocol.GetKey, s.getKey),
		handle(svc, protocol.ListKeys, s.listKeys),
		handle(svc, protocol.GetExecution, s.getExecution),
		handle(svc, protocol.ListExecutions, s.listExecutions),
		handle(svc, protocol.GetExecutionCommits, s.getCommits),
		handle(svc, protocol.GetStats, s.store.GetStats),
		handle(svc, protocol.ListAudit, s.store.ListAudit),
		handle(svc, protocol.RecordAudit, s.recordAudit),
		handle(svc, protocol.ProjectionStates, s.projectionStates),
	)
}

func handle[Req, Resp any](svc *bus.Service, call protocol.Call[Req, Resp], fn func(context.Context, Req) (Resp, error)) error {
	return bus.Handle(svc, call, func(ctx context.Context, req Req) (Resp, error) {
		ctx, cancel := context.WithTimeout(ctx, queryTimeout)
		defer cancel()
		resp, err := fn(ctx, req)
		return resp, outward(err)
	})
}

func (s *Service) getSource(ctx context.Context, r protocol.GetSourceRequest) (protocol.KeptSource, error) {
	src, err := s.store.GetSource(ctx, r.Tenant, r.ID)
	return maskSource(src), err
}

func (s *Service) listSources(ctx context.Context, r protocol.ListSourcesRequest) (protocol.List[protocol.KeptSource], error) {
	l, err := s.store.ListSources(ctx, r)
	for i := range l.Items {
		l.Items[i] = maskSource(l.Items[i])
	}
	return l, err
}

func (s *Service) getKey(ctx context.Context, r protocol.GetKeyRequest) (protocol.Key, error) {
	k, err := s.store.GetKey(ctx, r.Tenant, r.ID)
	return s.shownKey(k), err
}

func (s *Service) listKeys(ctx context.Context, r protocol.ListKeysRequest) (protocol.List[protocol.Key], error) {
	l, err := s.store.ListKeys(ctx, r)
	for i := range l.Items {
		l.Items[i] = s.shownKey(l.Items[i])
	}
	return l, err
}

// shownKey is a key without its hash, and with the status that follows from the clock.
func (s *Service) shownKey(k protocol.Key) protocol.Key {
	if k.Status == protocol.StatusActive && !k.ExpiresAt.IsZero() && !s.now().Before(k.ExpiresAt.Time) {
		k.Status = protocol.StatusExpired
	}
	return maskKey(k)
}

func (s *Service) getExecution(ctx context.Context, r protocol.GetExecutionRequest) (protocol.Execution, error) {
	x, err := s.store.GetExecution(ctx, r.Tenant, r.ID)
	if err != nil {
		return protocol.Execution{}, err
	}
	for _, state := range []struct {
		ref  *string
		into *[]byte
	}{{&x.InitialStateRef, (*[]byte)(&x.InitialState)}, {&x.FinalStateRef, (*[]byte)(&x.FinalState)}} {
		if *state.ref == "" {
			continue
		}
		raw, err := s.bus.GetObject(ctx, r.Tenant, *state.ref, maxState)
		if err != nil {
			// Too large for an answer, gone, or out of reach for now: the reader has its name.
			s.log.Debug("state left in the object store", zap.String("execution_id", string(r.ID)), zap.Error(err))
			continue
		}
		*state.into, *state.ref = raw, ""
	}
	if n := len(x.Nodes); n > maxNodes {
		x.Nodes = x.Nodes[n-maxNodes:]
	}
	return x.Execution, nil
}

// listExecutions keeps messages short, so that a page fits into an answer.
func (s *Service) listExecutions(ctx context.Context, r protocol.ListExecutionsRequest) (protocol.List[protocol.Execution], error) {
	const longest = 4096
	l, err := s.store.ListExecutions(ctx, r)
	for i := range l.Items {
		if f := l.Items[i].Error; f != nil && len(f.Message) > longest {
			f.Message = strings.ToValidUTF8(f.Message[:longest], "") + "…"
		}
	}
	return l, err
}

func (s *Service) getCommits(ctx context.Context, r protocol.GetExecutionCommitsRequest) (protocol.ExecutionCommits, error) {
	return s.store.GetExecutionCommits(ctx, r, s.bus.Key(r.Tenant, r.ID).Stream())
}

// recordAudit keeps one record for each actor and reason in a minute.
func (s *Service) recordAudit(ctx context.Context, r protocol.RecordAuditRequest) (protocol.AuditRecord, error) {
	if err := firstError(checkText("actor", r.Actor, maxID), checkText("reason", r.Reason, maxName), checkText("request_id", r.RequestID, maxID)); err != nil {
		return protocol.AuditRecord{}, err
	}
	if r.At.IsZero() {
		r.At = protocol.At(s.now())
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d", r.Tenant, r.Actor, r.Reason, r.At.Unix()/60))
	a := protocol.AuditRecord{
		ID: "acc_" + hex.EncodeToString(sum[:16]), At: r.At, Tenant: r.Tenant, Actor: r.Actor, Action: protocol.ActionAccessRefused,
		Kind: protocol.KindKey, Target: r.Actor, RequestID: r.RequestID, Reason: r.Reason,
	}
	return a, s.store.RecordAudit(ctx, r.Tenant, a)
}

func (s *Service) projectionStates(ctx context.Context, _ protocol.ProjectionStatesRequest) (protocol.ProjectionReport, error) {
	report := protocol.ProjectionReport{Projections: []protocol.ProjectionState{}}
	have, err := s.store.Checkpoints(ctx)
	if err != nil {
		return report, err
	}
	for _, stream := range s.Streams() {
		state, err := s.bus.State(ctx, stream)
		if err != nil {
			return report, fmt.Errorf("%w: %w", bus.ErrUnavailable, err)
		}
		report.Projections = append(report.Projections, protocol.ProjectionState{Stream: stream, Projected: have[stream], Last: state.Last})
	}
	return report, nil
}
