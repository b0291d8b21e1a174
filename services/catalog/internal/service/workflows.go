package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/agentflow/agentflow/pkg/credential"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// maxSpec bounds a workflow document.
const maxSpec = 1 << 20

func createWorkflow(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.CreateWorkflow](r.cmd)
	if err != nil {
		return nil, err
	}
	if err := r.checkTenant(); err != nil {
		return nil, err
	}
	if r.last.Type != "" {
		return nil, refuse(protocol.CodeConflict, "id", "the workflow exists already")
	}
	spec, err := s.checkSpec(ctx, r, in.Spec)
	if err != nil {
		return nil, err
	}
	if in.Name == "" {
		in.Name = spec.Name
	}
	if in.Description == "" {
		in.Description = spec.Description
	}
	switch in.Status {
	case "":
		in.Status = protocol.WorkflowDraft
	case protocol.WorkflowDraft, protocol.WorkflowPublished:
	default:
		return nil, refuse(protocol.CodeInvalid, "status", "a new workflow is draft or published")
	}
	if err := firstError(checkName(in.Name), checkText("description", in.Description, maxDescription)); err != nil {
		return nil, err
	}
	return &decision{"workflow_created.v1", protocol.Workflow{
		ID: r.id, Tenant: r.cmd.Tenant, Name: in.Name, Description: in.Description, Status: in.Status, Version: 1, Spec: in.Spec,
		CreatedAt: r.at, CreatedBy: r.cmd.Actor, UpdatedAt: r.at, UpdatedBy: r.cmd.Actor,
	}}, nil
}

func updateWorkflow(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.UpdateWorkflow](r.cmd)
	if err != nil {
		return nil, err
	}
	if err := r.checkTenant(); err != nil {
		return nil, err
	}
	w, err := document[protocol.Workflow](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.IfMatch, w.Version); err != nil {
		return nil, err
	}
	event, changed := "workflow_updated.v1", false
	if in.Status != nil && *in.Status != w.Status {
		if event, err = transition(w.Status, *in.Status); err != nil {
			return nil, err
		}
		w.Status, changed = *in.Status, true
	}
	if in.Name != nil && *in.Name != w.Name {
		w.Name, changed = *in.Name, true
	}
	if in.Description != nil && *in.Description != w.Description {
		w.Description, changed = *in.Description, true
	}
	// null stands for nothing, as for every other field.
	if len(in.Spec) > 0 && string(in.Spec) != "null" && !sameJSON(in.Spec, w.Spec) {
		if _, err := s.checkSpec(ctx, r, in.Spec); err != nil {
			return nil, err
		}
		w.Spec, changed = in.Spec, true
	}
	if !changed {
		return nil, nil //nolint:nilnil // the workflow is what was asked for
	}
	if err := firstError(checkName(w.Name), checkText("description", w.Description, maxDescription)); err != nil {
		return nil, err
	}
	w.Version++
	w.UpdatedAt, w.UpdatedBy = r.at, r.cmd.Actor
	return &decision{event, w}, nil
}

func sameJSON(a, b json.RawMessage) bool {
	var x, y bytes.Buffer
	return json.Compact(&x, a) == nil && json.Compact(&y, b) == nil && bytes.Equal(x.Bytes(), y.Bytes())
}

// transitions say which states a workflow may go to from each, and what that is called.
var transitions = map[string]map[string]string{
	protocol.WorkflowDraft:     {protocol.WorkflowPublished: "workflow_published.v1"},
	protocol.WorkflowPublished: {protocol.WorkflowArchived: "workflow_archived.v1"},
	protocol.WorkflowArchived:  {protocol.WorkflowPublished: "workflow_published.v1"},
}

func transition(from, to string) (event string, err error) {
	if event, ok := transitions[from][to]; ok {
		return event, nil
	}
	if to == protocol.WorkflowDeleted {
		return "", refuse(protocol.CodeInvalid, "status", "a workflow is deleted by DELETE, not by its status")
	}
	if _, ok := transitions[to]; !ok {
		return "", refuse(protocol.CodeInvalid, "status", "status must be draft, published or archived")
	}
	var may []string
	for state := range transitions[from] {
		may = append(may, state)
	}
	slices.Sort(may)
	return "", refuse(protocol.CodeConflict, "status", fmt.Sprintf("a %s workflow cannot become %s, only %s", from, to, strings.Join(may, " or ")))
}

func deleteWorkflow(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.DeleteWorkflow](r.cmd)
	if err != nil {
		return nil, err
	}
	w, err := document[protocol.Workflow](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.IfMatch, w.Version); err != nil {
		return nil, err
	}
	active, err := r.tx.ActiveExecutions(ctx, r.cmd.Tenant, r.id)
	if err != nil {
		return nil, err
	}
	if active.Total > 0 {
		return nil, &protocol.Error{
			Code: protocol.CodeConflict, Details: active,
			Message: fmt.Sprintf("%d executions of the workflow are under way; wait for them or cancel them first", active.Total),
		}
	}
	w.Status, w.DeletedAt, w.DeletedBy = protocol.WorkflowDeleted, r.at, r.cmd.Actor
	w.UpdatedAt, w.UpdatedBy = r.at, r.cmd.Actor
	return &decision{"workflow_deleted.v1", w}, nil
}

// checkSpec refuses a document that is no valid workflow, with everything that is wrong. The kept
// sources that it names stay as they are until the command is done.
func (s *Service) checkSpec(ctx context.Context, r *room, raw json.RawMessage) (*workflow.Spec, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, refuse(protocol.CodeInvalid, "spec", "spec is required")
	}
	if len(raw) > maxSpec {
		return nil, refuse(protocol.CodeTooLarge, "spec", fmt.Sprintf("spec must have at most %d bytes", maxSpec))
	}
	if holdsNull(raw) {
		return nil, refuse(protocol.CodeInvalid, "spec", "spec must not hold the character U+0000")
	}
	spec, err := workflow.Parse(raw)
	var shape *workflow.ShapeError
	if errors.As(err, &shape) {
		return nil, invalidWorkflow(workflow.Report{Errors: shape.Problems()})
	}
	if err != nil {
		return nil, err
	}
	uses := usedBy(spec)
	kinds := map[string]string{}
	if len(uses) > 0 {
		if err := r.tx.Hold(ctx, r.cmd.Tenant, protocol.KindSource, uses); err != nil {
			return nil, err
		}
		if kinds, err = r.tx.SourceKinds(ctx, r.cmd.Tenant, uses); err != nil {
			return nil, err
		}
	}
	report := workflow.Validate(spec, workflow.Known{Source: func(id string) (string, bool) {
		kind, ok := kinds[id]
		return kind, ok
	}})
	report.Errors = append(report.Errors, credential.InSpec(spec)...)
	if len(report.Errors) > 0 {
		return nil, invalidWorkflow(report)
	}
	return spec, nil
}

func invalidWorkflow(report workflow.Report) error {
	report.Valid = false
	n := len(report.Errors)
	message := "the workflow is invalid: " + report.Errors[0].Error()
	if n > 1 {
		message += fmt.Sprintf(" (and %d more)", n-1)
	}
	return &protocol.Error{Code: protocol.CodeWorkflowInvalid, Field: "spec", Message: message, Details: report}
}

// usedBy is usedSources of a spec that has been read.
func usedBy(spec *workflow.Spec) []string {
	var uses []string
	for _, n := range spec.Nodes {
		id, _ := n.Metadata["source_id"].(string)
		if id == "" {
			id, _ = n.Metadata["source"].(string)
		}
		if _, declared := spec.Source(id); id != "" && !declared {
			uses = append(uses, id)
		}
	}
	slices.Sort(uses)
	return slices.Compact(uses)
}

// holdsNull tells whether a JSON document holds U+0000, which no text in Postgres may.
func holdsNull(raw []byte) bool {
	for i := 0; i+5 < len(raw); i++ {
		if raw[i] != '\\' {
			continue
		}
		if string(raw[i+1:i+6]) == "u0000" {
			return true
		}
		i++ // the escaped character, which may be a backslash
	}
	return false
}
