package api

import (
	"context"
	"net/http"
	"strings"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// SourceID names a kept source in an address.
type SourceID struct {
	ID string `path:"id" maxLength:"200" doc:"Id of the source" example:"src_01jd2v8m6hf5qrgq2s9n0w3x4y"`
}

// NewSource is the body that keeps a source.
type NewSource struct {
	ID     string         `json:"id,omitempty" maxLength:"200" doc:"By which workflows name it; left out, one is made"`
	Name   string         `json:"name,omitempty" maxLength:"200"`
	Kind   string         `json:"kind" enum:"llm,image,db,api"`
	Config map[string]any `json:"config" doc:"Names of environment variables, never secrets"`
}

// SourceChange is the body that changes a source. What is left out stays as it is.
type SourceChange struct {
	Name   *string        `json:"name,omitempty" maxLength:"200"`
	Kind   *string        `json:"kind,omitempty" enum:"llm,image,db,api"`
	Config map[string]any `json:"config,omitempty" doc:"Replaces the whole config"`
}

type sourceOutput = Versioned[protocol.KeptSource]

func sourceAnswer(k protocol.KeptSource, err error) (*sourceOutput, error) {
	if err != nil {
		return nil, err
	}
	return &sourceOutput{ETag: etag(k.Version), Body: k}, nil
}

func (s *Server) sourceRoutes() {
	register(s, operation{
		id: "create-source", method: http.MethodPost, path: "/sources", tag: tagSources, scope: protocol.ScopeSourcesWrite,
		summary: "Keep a source", description: "For every workflow of the tenant that names it. Secrets are named, never sent: config holds names of environment variables.",
		status: http.StatusCreated, errors: []int{http.StatusConflict},
	}, s.createSource)
	register(s, operation{
		id: "list-sources", method: http.MethodGet, path: "/sources", tag: tagSources, scope: protocol.ScopeSourcesRead,
		summary: "List kept sources", errors: []int{http.StatusUnprocessableEntity},
	}, s.listSources)
	register(s, operation{
		id: "get-source", method: http.MethodGet, path: "/sources/{id}", tag: tagSources, scope: protocol.ScopeSourcesRead,
		summary: "Get a kept source", errors: []int{http.StatusNotFound},
	}, s.getSource)
	register(s, operation{
		id: "update-source", method: http.MethodPut, path: "/sources/{id}", tag: tagSources, scope: protocol.ScopeSourcesWrite,
		summary: "Change a kept source", errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, s.updateSource)
	register(s, operation{
		id: "delete-source", method: http.MethodDelete, path: "/sources/{id}", tag: tagSources, scope: protocol.ScopeSourcesWrite,
		summary: "Delete a kept source", description: "Refused while a workflow uses it; the answer names the workflows.",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, s.deleteSource)
	register(s, operation{
		id: "test-source", method: http.MethodPost, path: "/sources/{id}/test", tag: tagSources, scope: protocol.ScopeSourcesWrite,
		summary: "Try a kept source", description: "Reaches out to it once, as an execution would. 200 also when it cannot be reached: the answer says so.",
		errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, r *request, in *struct{ SourceID }) (*Output[SourceTested], error) {
		return output(s.testSource(ctx, r, in.ID))
	})
}

func (s *Server) createSource(ctx context.Context, r *request, in *struct{ Body NewSource }) (*sourceOutput, error) {
	b := in.Body
	k, err := command[protocol.KeptSource](ctx, s, r, r.tenant, protocol.VerbSourceCreate, protocol.CreateSource{
		Source: workflow.Source{ID: b.ID, Kind: b.Kind, Config: b.Config}, Name: b.Name,
	})
	out, err := sourceAnswer(k, err)
	if err != nil {
		return nil, err
	}
	s.cache.Forget(r.tenant, protocol.KindSource, k.ID)
	out.Location = "/sources/" + k.ID
	return out, nil
}

func (s *Server) listSources(ctx context.Context, r *request, in *struct {
	PageParams
	Kind string `query:"kind" enum:"llm,image,db,api"`
},
) (*PageOutput[protocol.KeptSource], error) {
	list, err := ask(ctx, s, protocol.ListSources, protocol.ListSourcesRequest{Tenant: r.tenant, Page: in.page(), Kind: in.Kind})
	if err != nil {
		return nil, err
	}
	return pageOf(list, asIs[protocol.KeptSource]), nil
}

func (s *Server) getSource(ctx context.Context, r *request, in *struct{ SourceID }) (*sourceOutput, error) {
	return sourceAnswer(ask(ctx, s, protocol.GetSource, protocol.GetSourceRequest{Tenant: r.tenant, ID: in.ID}))
}

func (s *Server) updateSource(ctx context.Context, r *request, in *struct {
	SourceID
	IfMatch
	Body SourceChange
},
) (*sourceOutput, error) {
	k, err := command[protocol.KeptSource](ctx, s, r, r.tenant, protocol.VerbSourceUpdate, protocol.UpdateSource{
		ID: in.ID, Name: in.Body.Name, Kind: in.Body.Kind, Config: in.Body.Config, IfMatch: in.version,
	})
	s.cache.Forget(r.tenant, protocol.KindSource, strings.Clone(in.ID))
	return sourceAnswer(k, err)
}

func (s *Server) deleteSource(ctx context.Context, r *request, in *struct {
	SourceID
	IfMatch
},
) (*sourceOutput, error) {
	return sourceAnswer(s.dropSource(ctx, r, in.ID, in.version))
}

func (s *Server) dropSource(ctx context.Context, r *request, id string, version int) (protocol.KeptSource, error) {
	k, err := command[protocol.KeptSource](ctx, s, r, r.tenant, protocol.VerbSourceDelete, protocol.DeleteSource{ID: id, IfMatch: version})
	s.cache.Forget(r.tenant, protocol.KindSource, strings.Clone(id))
	return k, err
}

// SourceTested is the answer of a try.
type SourceTested struct {
	SourceID  string `json:"source_id"`
	Kind      string `json:"kind"`
	Connected bool   `json:"connected"`
	Message   string `json:"message"`
}

// testSource asks an executor to reach the source once: only executors call the outside world.
func (s *Server) testSource(ctx context.Context, r *request, id string) (SourceTested, error) {
	kept, err := ask(ctx, s, protocol.GetSource, protocol.GetSourceRequest{Tenant: r.tenant, ID: id})
	if err != nil {
		return SourceTested{}, err
	}
	answer := SourceTested{SourceID: kept.ID, Kind: kept.Kind}
	// What an answer masks, a test needs: the executor gets the document as the catalog's log has it.
	doc, err := s.cache.Source(ctx, r.tenant, id)
	if err != nil {
		return SourceTested{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, protocol.TestSourceTimeout)
	defer cancel()
	result, err := bus.Request(ctx, s.bus, protocol.TestSource, protocol.TestSourceRequest{Tenant: r.tenant, Source: doc.Source})
	if err != nil {
		return SourceTested{}, err
	}
	answer.Connected, answer.Message = result.Connected, result.Message
	return answer, nil
}
