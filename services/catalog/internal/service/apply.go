package service

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/agentflow/agentflow/pkg/credential"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
)

// apply brings a catalog event into the tables: the same way for a command, the projector and a
// replay. It returns the document as it is then.
func (s *Service) apply(ctx context.Context, tx *postgres.Tx, e protocol.CatalogEvent, seq uint64, before postgres.Current) (postgres.Current, error) {
	if before.Seq >= seq {
		return before, nil
	}
	change := postgres.Change{Event: e, Seq: seq, Before: before, Stored: postgres.JSON(e.Document)}
	change.Event.Actor, change.Event.RequestID = postgres.Text(e.Actor), postgres.Text(e.RequestID)
	var err error
	if before.Seq > 0 {
		if change.Audit.Before, err = maskedDocument(e.Kind, before.Document); err != nil {
			return before, err
		}
	}
	if change.Audit.After, err = maskedDocument(e.Kind, change.Stored); err != nil {
		return before, err
	}
	if e.Kind == protocol.KindWorkflow && !e.Deleted() {
		change.Uses = usedSources(e.Document)
	}
	if err := tx.Apply(ctx, e.Tenant, change); err != nil {
		return before, err
	}
	return postgres.Current{Seq: seq, Revision: e.Revision, Document: change.Stored}, nil
}

// maskedDocument is a document as answers and the audit show it.
func maskedDocument(kind protocol.CatalogKind, doc json.RawMessage) (json.RawMessage, error) {
	var v any
	switch kind {
	case protocol.KindKey:
		var k protocol.Key
		if err := unmarshal(doc, &k); err != nil {
			return nil, fmt.Errorf("read key: %w", err)
		}
		v = maskKey(k)
	case protocol.KindSource:
		var src protocol.KeptSource
		if err := unmarshal(doc, &src); err != nil {
			return nil, fmt.Errorf("read source: %w", err)
		}
		v = maskSource(src)
	case protocol.KindTenant, protocol.KindWorkflow:
		return doc, nil
	default:
		return nil, fmt.Errorf("catalog documents of kind %q are unknown", kind)
	}
	return json.Marshal(v)
}

func maskKey(k protocol.Key) protocol.Key {
	k.Hash = credential.Mask
	if k.PreviousHash != "" {
		k.PreviousHash = credential.Mask
	}
	return k
}

func maskSource(src protocol.KeptSource) protocol.KeptSource {
	if masked, ok := credential.Masked(src.Config).(map[string]any); ok {
		src.Config = masked
	}
	return src
}

// usedSources are the sources that a workflow's nodes name and its spec does not declare: those
// that the tenant must keep. It reads the document itself, so that a spec that today's rules would
// refuse is still understood.
func usedSources(doc json.RawMessage) []string {
	var w struct {
		Spec struct {
			Nodes []struct {
				Metadata map[string]json.RawMessage `json:"metadata"`
			} `json:"nodes"`
			Sources []struct {
				ID string `json:"id"`
			} `json:"sources"`
		} `json:"spec"`
	}
	if err := json.Unmarshal(doc, &w); err != nil {
		return nil // no workflow that this service has accepted
	}
	declared := map[string]bool{}
	for _, src := range w.Spec.Sources {
		declared[src.ID] = true
	}
	uses := []string{}
	for _, n := range w.Spec.Nodes {
		for _, key := range []string{"source_id", "source"} {
			var id string
			if raw, ok := n.Metadata[key]; !ok || json.Unmarshal(raw, &id) != nil || id == "" || declared[id] {
				continue
			}
			uses = append(uses, postgres.Text(id))
			break
		}
	}
	slices.Sort(uses)
	return slices.Compact(uses)
}
