package workflow

import (
	"fmt"
	"strings"
)

// Known is what the caller knows about the world around a spec.
type Known struct {
	// Source returns the kind of a source that the tenant keeps. Nil means there are none.
	Source func(id string) (kind string, ok bool)
}

// Validate reports everything that is wrong with a spec, at once. It never panics, whatever the
// spec holds, and takes time in proportion to its size.
func Validate(s *Spec, known Known) Report {
	_, report := Check(s, known)
	return report
}

// Check is Validate and Compile in one pass. The plan is nil unless the report is valid.
func Check(s *Spec, known Known) (*Plan, Report) {
	b := build(s)
	b.sources(known)
	b.notes()
	var plan *Plan
	if len(b.errors.list) == 0 {
		var err error
		if plan, err = b.finish(); err != nil {
			b.invalid("", "%s", err)
		}
	}
	report := Report{Valid: len(b.errors.list) == 0, Errors: b.errors.all(), Warnings: b.warnings.all()}
	if report.Errors == nil {
		report.Errors = []Problem{}
	}
	if report.Warnings == nil {
		report.Warnings = []Problem{}
	}
	return plan, report
}

// sources checks the spec's own sources, and that each node's source exists and suits it.
func (b *builder) sources(known Known) {
	kinds := make(map[string]string, len(b.spec.Sources))
	for i, s := range b.spec.Sources {
		field := fmt.Sprintf("sources[%d]", i)
		if s.ID == "" {
			b.invalid(field+".id", "a source needs an id")
		}
		if _, taken := kinds[s.ID]; taken {
			b.errors.add(NewProblem(ProblemDuplicateSource, "", field+".id", "the source id %s is used twice", quoted(s.ID)))
			continue
		}
		kinds[s.ID] = s.Kind
		CheckSource(s, field, b.errors.add)
	}
	for i := range b.plan.Nodes {
		n := &b.plan.Nodes[i]
		if n.SourceID == "" {
			continue
		}
		kind, ok := kinds[n.SourceID]
		if !ok && known.Source != nil {
			kind, ok = known.Source(n.SourceID)
		}
		b.suits(n, kind, ok)
	}
}

func (b *builder) suits(n *PlanNode, kind string, exists bool) {
	field := "metadata.source_id"
	if n.Metadata["source_id"] == nil {
		field = "metadata.source"
	}
	want := registered[n.Type].Kind
	switch {
	case !exists:
		b.errors.add(NewProblem(ProblemSourceMissing, n.ID, field,
			"node %s names the source %s, which neither the workflow nor the tenant has; declare it under sources", quoted(n.ID), quoted(n.SourceID)))
	case want != "" && !n.Pure && kind != want && knownKind(kind):
		b.errors.add(NewProblem(ProblemMetadataInvalid, n.ID, field,
			"a node of type %s needs a source of kind %s, but %s is of kind %s", n.Type, want, quoted(n.SourceID), kind))
	}
}

// knownKind keeps an unknown kind, which has its own error, from being reported at every node too.
func knownKind(kind string) bool {
	_, ok := sourceKind(kind)
	return ok
}

// notes warns of what is allowed but cannot be meant.
func (b *builder) notes() {
	for i := range b.plan.Nodes {
		n := &b.plan.Nodes[i]
		if n.Input != nil && len(n.Input.transforms) > 0 && n.Input.inputKey == n.Input.outputKey {
			b.warnings.add(NewProblem(ProblemMetadataInvalid, n.ID, "metadata.transform",
				"the result of %s is checked but not kept: %s keeps its first value; name another output_key",
				strings.Join(n.Input.transforms, ", "), quoted(n.Input.inputKey)))
		}
	}
}
