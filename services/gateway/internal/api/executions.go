package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// ExecutionID names an execution in an address.
type ExecutionID struct {
	ID string `path:"id" maxLength:"200" doc:"Id of the execution" example:"exec_01jd2v8m6hf5qrgq2s9n0w3x4y"`
}

// execution checks the id: it becomes part of a subject.
func (e ExecutionID) execution() (protocol.ExecutionID, error) { return executionID(e.ID) }

func executionID(id string) (protocol.ExecutionID, error) {
	if err := typeid.Check("exec", id); err != nil {
		return "", &protocol.Error{Code: protocol.CodeNotFound, Field: "path.id", Message: "this is not the id of an execution"}
	}
	return protocol.ExecutionID(strings.Clone(id)), nil
}

// ExecutionFilter narrows a list of executions.
type ExecutionFilter struct {
	PageParams
	SinceUntil
	Status string `query:"status" enum:"PENDING,RUNNING,COMPLETED,FAILED,TIMED_OUT,CANCELLED"`
	Tag    string `query:"tag" maxLength:"100"`
}

func (s *Server) executionRoutes() {
	register(s, operation{
		id: "list-executions", method: http.MethodGet, path: "/executions", tag: tagExecutions, scope: protocol.ScopeExecutionsRead,
		summary: "List executions", description: "The newest first, without their states.", errors: []int{http.StatusUnprocessableEntity},
	}, func(ctx context.Context, r *request, in *struct {
		ExecutionFilter
		WorkflowID string `query:"workflow_id" maxLength:"200"`
	},
	) (*PageOutput[protocol.Execution], error) {
		return s.executionPage(ctx, r, in.ExecutionFilter, in.WorkflowID)
	})
	register(s, operation{
		id: "get-execution", method: http.MethodGet, path: "/executions/{id}", tag: tagExecutions, scope: protocol.ScopeExecutionsRead,
		summary: "Get an execution", description: "Exact to the last committed step, from the moment it was accepted.",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, r *request, in *struct{ ExecutionID }) (*Output[protocol.Execution], error) {
		id, err := in.execution()
		if err != nil {
			return nil, err
		}
		r.execution = id
		e, err := s.history.Get(ctx, r.tenant, id)
		if err != nil {
			return nil, err
		}
		return &Output[protocol.Execution]{Body: *e}, nil
	})
	register(s, operation{
		id: "cancel-execution", method: http.MethodPost, path: "/executions/{id}/cancel", tag: tagExecutions, scope: protocol.ScopeExecutionsWrite,
		summary: "Cancel an execution", description: "Whether it is pending, running or waiting. Cancelling twice is harmless; one that has ended otherwise answers 409.",
		errors: []int{http.StatusNotFound, http.StatusConflict},
	}, func(ctx context.Context, r *request, in *struct {
		ExecutionID
		Body *CancelBody
	},
	) (*Output[protocol.Execution], error) {
		id, err := in.execution()
		if err != nil {
			return nil, err
		}
		r.execution = id
		reason := ""
		if in.Body != nil {
			reason = in.Body.Reason
		}
		return output(s.cancel(ctx, r, id, reason))
	})
}

func (s *Server) executionPage(ctx context.Context, r *request, f ExecutionFilter, workflowID string) (*PageOutput[protocol.Execution], error) {
	list, err := ask(ctx, s, protocol.ListExecutions, protocol.ListExecutionsRequest{
		Tenant: r.tenant, Page: f.page(), Status: f.Status, WorkflowID: workflowID, Tag: f.Tag, Since: moment(f.Since), Until: moment(f.Until),
	})
	if err != nil {
		return nil, err
	}
	return pageOf(list, asIs[protocol.Execution]), nil
}
