package protocol

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Resolve is the document that an execution runs: the spec with every source that it names. The
// sources of the tenant are appended to those that the spec declares; where both have an id, the
// spec's own stays.
//
// The document is named by the hash of its bytes. It comes compact, and in the form that encoding
// it as JSON once more leaves as it is, so that no reader on the way can give it another name.
func Resolve(spec *workflow.Spec, kept []workflow.Source) (json.RawMessage, error) {
	raw, err := json.Marshal(spec)
	if err != nil {
		return nil, fmt.Errorf("resolve workflow: %w", err)
	}
	kept = slices.DeleteFunc(slices.Clone(kept), func(k workflow.Source) bool {
		_, own := spec.Source(k.ID)
		return own
	})
	if len(kept) == 0 {
		return raw, nil
	}
	var doc map[string]json.RawMessage
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, fmt.Errorf("resolve workflow: %w", err)
	}
	var sources []json.RawMessage // as their author wrote them: with keys that we do not know
	if own, ok := doc["sources"]; ok {
		if err := json.Unmarshal(own, &sources); err != nil {
			return nil, fmt.Errorf("resolve workflow: sources: %w", err)
		}
	}
	for _, k := range kept {
		b, err := json.Marshal(k)
		if err != nil {
			return nil, fmt.Errorf("resolve workflow: source %s: %w", k.ID, err)
		}
		sources = append(sources, b)
	}
	if doc["sources"], err = json.Marshal(sources); err != nil {
		return nil, fmt.Errorf("resolve workflow: sources: %w", err)
	}
	return json.Marshal(doc)
}
