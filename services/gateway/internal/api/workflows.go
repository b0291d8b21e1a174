package api

import (
	"context"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// WorkflowID names a workflow in an address.
type WorkflowID struct {
	ID string `path:"id" maxLength:"200" doc:"Id of the workflow" example:"wf_01jd2v8m6hf5qrgq2s9n0w3x4y"`
}

// NewWorkflow is the body that stores a workflow.
type NewWorkflow struct {
	ID          string          `json:"id,omitempty" maxLength:"200" doc:"wf_… id; left out, one is made"`
	Name        string          `json:"name,omitempty" maxLength:"200" doc:"Left out, the name in the spec"`
	Description string          `json:"description,omitempty" maxLength:"10000"`
	Status      string          `json:"status,omitempty" enum:"draft,published" doc:"draft unless it says otherwise"`
	Spec        json.RawMessage `json:"spec" doc:"The workflow document"`
}

// WorkflowChange is the body that changes a workflow. What is left out stays as it is.
type WorkflowChange struct {
	Name        *string         `json:"name,omitempty" maxLength:"200"`
	Description *string         `json:"description,omitempty" maxLength:"10000"`
	Status      *string         `json:"status,omitempty" enum:"draft,published,archived"`
	Spec        json.RawMessage `json:"spec,omitempty"`
}

type workflowOutput = Versioned[protocol.Workflow]

func workflowAnswer(w protocol.Workflow, err error) (*workflowOutput, error) {
	if err != nil {
		return nil, err
	}
	return &workflowOutput{ETag: etag(w.Version), Body: w}, nil
}

func (s *Server) workflowRoutes() {
	both(s, operation{
		id: "create-workflow", method: http.MethodPost, path: "/workflows", tag: tagWorkflows, scope: protocol.ScopeWorkflowsWrite,
		summary: "Store a workflow", description: "The spec is validated first; all its problems are in the answer.",
		status: http.StatusCreated, errors: []int{http.StatusConflict},
	}, s.createWorkflow)
	both(s, operation{
		id: "list-workflows", method: http.MethodGet, path: "/workflows", tag: tagWorkflows, scope: protocol.ScopeWorkflowsRead,
		summary: "List workflows", description: "The newest first, without their specs. Deleted ones are left out unless asked for.",
		errors: []int{http.StatusUnprocessableEntity},
	}, s.listWorkflows)
	both(s, operation{
		id: "get-workflow", method: http.MethodGet, path: "/workflows/{id}", tag: tagWorkflows, scope: protocol.ScopeWorkflowsRead,
		summary: "Get a workflow", description: "The current version, or the one that is asked for.",
		errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.getWorkflow)
	both(s, operation{
		id: "update-workflow", method: http.MethodPut, path: "/workflows/{id}", tag: tagWorkflows, scope: protocol.ScopeWorkflowsWrite,
		summary: "Change a workflow", description: "Every change makes a new version; older ones are kept. What is left out stays as it is.",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, s.updateWorkflow)
	both(s, operation{
		id: "delete-workflow", method: http.MethodDelete, path: "/workflows/{id}", tag: tagWorkflows, scope: protocol.ScopeWorkflowsWrite,
		summary: "Delete a workflow", description: "Refused while executions of it are under way.",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, s.deleteWorkflow)
	both(s, operation{
		id: "list-workflow-versions", method: http.MethodGet, path: "/workflows/{id}/versions", tag: tagWorkflows, scope: protocol.ScopeWorkflowsRead,
		summary: "List the versions of a workflow", errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.listVersions)
	both(s, operation{
		id: "list-workflow-executions", method: http.MethodGet, path: "/workflows/{id}/executions", tag: tagWorkflows, scope: protocol.ScopeExecutionsRead,
		summary: "List the executions of a workflow", errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.listWorkflowExecutions)
	both(s, operation{
		id: "get-workflow-stats", method: http.MethodGet, path: "/workflows/{id}/stats", tag: tagWorkflows, scope: protocol.ScopeExecutionsRead,
		summary: "Sum up the executions of a workflow", errors: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, s.workflowStats)
}

func (s *Server) createWorkflow(ctx context.Context, r *request, in *struct{ Body NewWorkflow }) (*workflowOutput, error) {
	b := in.Body
	if err := s.validSpec(ctx, r, b.Spec); err != nil {
		return nil, err
	}
	w, err := command[protocol.Workflow](ctx, s, r, r.tenant, protocol.VerbWorkflowCreate, protocol.CreateWorkflow{
		ID: b.ID, Name: b.Name, Description: b.Description, Status: b.Status, Spec: b.Spec,
	})
	out, err := workflowAnswer(w, err)
	if err != nil {
		return nil, err
	}
	r.workflow = w.ID
	out.Location = "/workflows/" + w.ID
	return out, nil
}

// validSpec refuses a spec with all its problems, where they stand in the body.
func (s *Server) validSpec(ctx context.Context, r *request, spec json.RawMessage) error {
	_, report, err := s.start.Check(ctx, r.tenant, spec)
	if err != nil {
		if p := s.known(err); p != nil && p.shape != nil {
			return relocated(p)
		}
		return err
	}
	if !report.Valid {
		return &start.InvalidError{Report: report}
	}
	return nil
}

// relocated moves shape errors from "workflow", where an order has its spec, to "spec".
func relocated(p *Problem) *Problem {
	for i := range p.shape {
		if loc := p.shape[i].Loc; len(loc) > 1 {
			loc[1] = "spec"
		}
	}
	return shapesProblem(p.shape)
}

func (s *Server) listWorkflows(ctx context.Context, r *request, in *struct {
	PageParams
	Status string `query:"status" enum:"draft,published,archived,deleted"`
	Search string `query:"search" maxLength:"200" doc:"Part of the name or the description, in any case"`
},
) (*PageOutput[protocol.Workflow], error) {
	list, err := ask(ctx, s, protocol.ListWorkflows, protocol.ListWorkflowsRequest{
		Tenant: r.tenant, Page: in.page(), Status: in.Status, Search: in.Search,
	})
	if err != nil {
		return nil, err
	}
	return pageOf(list, asIs[protocol.Workflow]), nil
}

func asIs[T any](v T) T { return v }

func (s *Server) getWorkflow(ctx context.Context, r *request, in *struct {
	WorkflowID
	Version int `query:"version" minimum:"1" doc:"An older version; left out, the current one"`
},
) (*workflowOutput, error) {
	r.workflow = strings.Clone(in.ID)
	return workflowAnswer(ask(ctx, s, protocol.GetWorkflow, protocol.GetWorkflowRequest{Tenant: r.tenant, ID: in.ID, Version: in.Version}))
}

func (s *Server) updateWorkflow(ctx context.Context, r *request, in *struct {
	WorkflowID
	IfMatch
	Body WorkflowChange
},
) (*workflowOutput, error) {
	r.workflow = strings.Clone(in.ID)
	b := in.Body
	if len(b.Spec) > 0 {
		if err := s.validSpec(ctx, r, b.Spec); err != nil {
			return nil, err
		}
	}
	w, err := command[protocol.Workflow](ctx, s, r, r.tenant, protocol.VerbWorkflowUpdate, protocol.UpdateWorkflow{
		ID: in.ID, Name: b.Name, Description: b.Description, Status: b.Status, Spec: b.Spec, IfMatch: in.version,
	})
	s.cache.Forget(r.tenant, protocol.KindWorkflow, strings.Clone(in.ID))
	return workflowAnswer(w, err)
}

func (s *Server) deleteWorkflow(ctx context.Context, r *request, in *struct {
	WorkflowID
	IfMatch
},
) (*workflowOutput, error) {
	r.workflow = strings.Clone(in.ID)
	w, err := command[protocol.Workflow](ctx, s, r, r.tenant, protocol.VerbWorkflowDelete, protocol.DeleteWorkflow{ID: in.ID, IfMatch: in.version})
	s.cache.Forget(r.tenant, protocol.KindWorkflow, strings.Clone(in.ID))
	w.Spec = nil
	return workflowAnswer(w, err)
}

func (s *Server) listVersions(ctx context.Context, r *request, in *struct {
	WorkflowID
	PageParams
},
) (*PageOutput[protocol.WorkflowVersion], error) {
	list, err := ask(ctx, s, protocol.ListWorkflowVersions, protocol.ListWorkflowVersionsRequest{Tenant: r.tenant, ID: in.ID, Page: in.page()})
	if err != nil {
		return nil, err
	}
	return pageOf(list, asIs[protocol.WorkflowVersion]), nil
}

func (s *Server) listWorkflowExecutions(ctx context.Context, r *request, in *struct {
	WorkflowID
	ExecutionFilter
},
) (*PageOutput[protocol.Execution], error) {
	return s.executionPage(ctx, r, in.ExecutionFilter, in.ID)
}

func (s *Server) workflowStats(ctx context.Context, r *request, in *struct {
	WorkflowID
	SinceUntil
},
) (*Output[protocol.Stats], error) {
	return owned(ctx, s, protocol.GetStats, protocol.GetStatsRequest{
		Tenant: r.tenant, WorkflowID: in.ID, Since: moment(in.Since), Until: moment(in.Until),
	})
}
