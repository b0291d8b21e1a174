package start

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/credential"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

const (
	// rideAlong is the largest spec that travels inside the requested event; others go to the
	// bucket, once.
	rideAlong = 16 << 10
	// renewSpec is how long a spec put into the bucket is taken to be there; the bucket keeps it
	// twice as long.
	renewSpec = 12 * time.Hour
	// preparedSpecs bounds the cache, and with rideAlong its memory.
	preparedSpecs = 2048
)

// prepared is a spec that was found fit to run for one tenant.
type prepared struct {
	hash          string            // of the resolved document
	inline        protocol.Verbatim // the resolved document, when it is small
	name          string
	timeout       time.Duration
	maxIterations int
	kept          []keptVersion
	stored        atomic.Int64 // when the resolved document was last put into the bucket, Unix seconds
}

// keptVersion is a source of the tenant as it was when the spec was resolved.
type keptVersion struct {
	id      string
	version int
}

type specKey struct {
	tenant protocol.TenantID
	hash   [sha256.Size]byte
}

// prepare parses, validates, resolves and compiles a spec, or finds that it did so before.
func (s *Service) prepare(ctx context.Context, t protocol.TenantID, raw json.RawMessage) (*prepared, error) {
	key := specKey{t, sha256.Sum256(raw)}
	if p, ok := s.specs.Get(key); ok && s.current(ctx, t, p) {
		return p, s.store(ctx, t, p, func() (json.RawMessage, error) {
			doc, _, _, err := s.resolve(ctx, t, raw)
			return doc, err
		})
	}
	doc, spec, kept, err := s.resolve(ctx, t, raw)
	if err != nil {
		return nil, err
	}
	p := &prepared{
		name: spec.Name, maxIterations: spec.MaxIterations,
		timeout: time.Duration(spec.TimeoutSeconds * float64(time.Second)),
		hash:    workflow.Hash(doc),
	}
	for _, k := range kept {
		p.kept = append(p.kept, keptVersion{k.ID, k.Version})
	}
	if len(doc) <= rideAlong {
		p.inline = protocol.VerbatimOf(doc)
	}
	if err := s.store(ctx, t, p, func() (json.RawMessage, error) { return doc, nil }); err != nil {
		return nil, err
	}
	s.specs.Add(key, p)
	return p, nil
}

// Check parses and validates a spec for a tenant. The plan is nil unless the report is valid.
func (s *Service) Check(ctx context.Context, t protocol.TenantID, raw json.RawMessage) (*workflow.Plan, workflow.Report, error) {
	spec, err := workflow.Parse(raw)
	if err != nil {
		return nil, workflow.Report{}, err
	}
	kept, err := s.named(ctx, t, spec)
	if err != nil {
		return nil, workflow.Report{}, err
	}
	plan, report := workflow.Check(spec, known(kept))
	if report = withoutSecrets(spec, report); !report.Valid {
		plan = nil
	}
	return plan, report, nil
}

// resolve makes the document that is run from the one that was given, which must be valid.
func (s *Service) resolve(ctx context.Context, t protocol.TenantID, raw json.RawMessage) (json.RawMessage, *workflow.Spec, []*protocol.KeptSource, error) {
	spec, err := workflow.Parse(raw)
	if err != nil {
		return nil, nil, nil, err
	}
	kept, err := s.named(ctx, t, spec)
	if err != nil {
		return nil, nil, nil, err
	}
	if report := withoutSecrets(spec, workflow.Validate(spec, known(kept))); !report.Valid {
		return nil, nil, nil, &InvalidError{Report: report}
	}
	doc, err := protocol.Resolve(spec, sourcesOf(kept))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("resolve workflow: %w", err)
	}
	return doc, spec, kept, nil
}

// withoutSecrets adds to a report what the spec holds of secrets: it is about to be written into the log.
func withoutSecrets(spec *workflow.Spec, report workflow.Report) workflow.Report {
	if found := credential.InSpec(spec); len(found) > 0 {
		report.Errors, report.Valid = append(report.Errors, found...), false
	}
	return report
}

func known(kept []*protocol.KeptSource) workflow.Known {
	return workflow.Known{Source: func(id string) (string, bool) {
		for _, k := range kept {
			if k.ID == id {
				return k.Kind, true
			}
		}
		return "", false
	}}
}

// named finds the tenant's sources that a spec names without declaring them.
func (s *Service) named(ctx context.Context, t protocol.TenantID, spec *workflow.Spec) ([]*protocol.KeptSource, error) {
	declared := make(map[string]bool, len(spec.Sources))
	for _, src := range spec.Sources {
		declared[src.ID] = true
	}
	var kept []*protocol.KeptSource
	for _, n := range spec.Nodes {
		id := sourceOf(n)
		if id == "" || declared[id] {
			continue
		}
		declared[id] = true
		src, err := s.catalog.Source(ctx, t, id)
		switch {
		case errors.Is(err, bus.ErrNotFound):
			continue // the validation says so
		case err != nil:
			return nil, fmt.Errorf("source %s of the workflow: %w", id, err)
		case src.Status != protocol.SourceDeleted:
			kept = append(kept, src)
		}
	}
	return kept, nil
}

func sourceOf(n workflow.Node) string {
	for _, key := range []string{"source_id", "source"} {
		if id, _ := n.Metadata[key].(string); id != "" {
			return id
		}
	}
	return ""
}

// current tells whether the tenant's sources are still those that a spec was resolved with.
func (s *Service) current(ctx context.Context, t protocol.TenantID, p *prepared) bool {
	for _, k := range p.kept {
		src, err := s.catalog.Source(ctx, t, k.id)
		if err != nil || src.Version != k.version || src.Status == protocol.SourceDeleted {
			return false
		}
	}
	return true
}

// store puts a document that is too large to ride along into the bucket, unless it was put there
// not long ago. Two at once put the same.
func (s *Service) store(ctx context.Context, t protocol.TenantID, p *prepared, doc func() (json.RawMessage, error)) error {
	if p.inline != nil || s.now().Unix()-p.stored.Load() < int64(renewSpec/time.Second) {
		return nil
	}
	body, err := doc()
	if err != nil {
		return err
	}
	if err := s.log.PutSpec(ctx, t, p.hash, body); err != nil {
		return fmt.Errorf("keep workflow: %w", errors.Join(bus.ErrUnavailable, err))
	}
	p.stored.Store(s.now().Unix())
	return nil
}

func sourcesOf(kept []*protocol.KeptSource) []workflow.Source {
	out := make([]workflow.Source, len(kept))
	for i, k := range kept {
		out[i] = k.Source
	}
	return out
}
