package api

import (
	"context"
	"net/http"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// TenantID names a tenant in an address.
type TenantID struct {
	ID string `path:"id" maxLength:"63" example:"acme"`
}

// NewTenant is the body that makes a tenant.
type NewTenant struct {
	ID     string                 `json:"id" minLength:"1" maxLength:"63" pattern:"^[a-z0-9][a-z0-9_-]*$" example:"acme"`
	Name   string                 `json:"name,omitempty" maxLength:"200" doc:"Left out, the id"`
	Limits *protocol.TenantLimits `json:"limits,omitempty"`
}

// TenantChange is the body that changes a tenant. What is left out stays as it is.
type TenantChange struct {
	Name   *string                `json:"name,omitempty" maxLength:"200"`
	Status *string                `json:"status,omitempty" enum:"active,suspended" doc:"The keys of a suspended tenant answer 403 at once"`
	Limits *protocol.TenantLimits `json:"limits,omitempty" doc:"Replaces all limits"`
}

type tenantOutput = Versioned[protocol.Tenant]

func tenantAnswer(t protocol.Tenant, err error) (*tenantOutput, error) {
	if err != nil {
		return nil, err
	}
	return &tenantOutput{ETag: etag(t.Version), Body: t}, nil
}

func (s *Server) tenantRoutes() {
	register(s, operation{
		id: "create-tenant", method: http.MethodPost, path: "/tenants", tag: tagTenants, scope: protocol.ScopeAdmin, tenantless: true,
		summary: "Create a tenant", description: "Takes the platform's own key.", status: http.StatusCreated, errors: []int{http.StatusConflict},
	}, func(ctx context.Context, r *request, in *struct{ Body NewTenant }) (*Output[protocol.Tenant], error) {
		if err := platformOnly(r, "creating tenants"); err != nil {
			return nil, err
		}
		id := protocol.TenantID(in.Body.ID)
		if err := id.Check(); err != nil {
			return nil, err
		}
		return output(command[protocol.Tenant](ctx, s, r, id, protocol.VerbTenantCreate, protocol.CreateTenant{Name: in.Body.Name, Limits: in.Body.Limits}))
	})
	register(s, operation{
		id: "list-tenants", method: http.MethodGet, path: "/tenants", tag: tagTenants, scope: protocol.ScopeAdmin, tenantless: true,
		summary: "List tenants", description: "Takes the platform's own key.", errors: []int{http.StatusUnprocessableEntity},
	}, func(ctx context.Context, r *request, in *struct {
		PageParams
		Status string `query:"status" enum:"active,suspended"`
	},
	) (*PageOutput[protocol.Tenant], error) {
		if err := platformOnly(r, "listing tenants"); err != nil {
			return nil, err
		}
		list, err := ask(ctx, s, protocol.ListTenants, protocol.ListTenantsRequest{Page: in.page(), Status: in.Status})
		if err != nil {
			return nil, err
		}
		return pageOf(list, asIs[protocol.Tenant]), nil
	})
	register(s, operation{
		id: "get-tenant", method: http.MethodGet, path: "/tenants/{id}", tag: tagTenants, scope: protocol.ScopeAdmin, tenantless: true,
		summary: "Get a tenant", errors: []int{http.StatusNotFound},
	}, func(ctx context.Context, r *request, in *struct{ TenantID }) (*tenantOutput, error) {
		if err := s.ownTenant(ctx, r, protocol.TenantID(in.ID)); err != nil {
			return nil, err
		}
		return tenantAnswer(ask(ctx, s, protocol.GetTenant, protocol.GetTenantRequest{Tenant: protocol.TenantID(in.ID)}))
	})
	register(s, operation{
		id: "update-tenant", method: http.MethodPut, path: "/tenants/{id}", tag: tagTenants, scope: protocol.ScopeAdmin, tenantless: true,
		summary:     "Change, suspend or reactivate a tenant",
		description: "An admin of the tenant may change its name; its status and its limits take the platform's own key.",
		errors:      []int{http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed},
	}, func(ctx context.Context, r *request, in *struct {
		TenantID
		IfMatch
		Body TenantChange
	},
	) (*tenantOutput, error) {
		id := protocol.TenantID(in.ID)
		if err := s.ownTenant(ctx, r, id); err != nil {
			return nil, err
		}
		if in.Body.Status != nil || in.Body.Limits != nil {
			// Nobody lifts their own limits.
			if err := platformOnly(r, "changing the status or the limits of a tenant"); err != nil {
				return nil, err
			}
		}
		if id.Check() != nil {
			return nil, &protocol.Error{Code: protocol.CodeNotFound, Message: "there is no such tenant"}
		}
		return tenantAnswer(command[protocol.Tenant](ctx, s, r, id, protocol.VerbTenantUpdate, protocol.UpdateTenant{
			Name: in.Body.Name, Status: in.Body.Status, Limits: in.Body.Limits, IfMatch: in.version,
		}))
	})
	register(s, operation{
		id: "list-audit", method: http.MethodGet, path: "/audit", tag: tagTenants, scope: protocol.ScopeWorkflowsRead, tenantless: true,
		summary: "List who wrote what", description: "The tenant's own records; for the admin key without X-Tenant-ID, those of every tenant.",
		errors: []int{http.StatusUnprocessableEntity},
	}, s.listAudit)
}

func (s *Server) listAudit(ctx context.Context, r *request, in *struct {
	PageParams
	SinceUntil
	Actor  string `query:"actor" maxLength:"200"`
	Action string `query:"action" maxLength:"100"`
	Kind   string `query:"kind" enum:"tenant,key,workflow,source"`
	ID     string `query:"id" maxLength:"200" doc:"Of the thing that was changed"`
},
) (*PageOutput[protocol.AuditRecord], error) {
	list, err := ask(ctx, s, protocol.ListAudit, protocol.ListAuditRequest{
		Tenant: r.tenant, All: r.tenant == "" && r.who.Platform, Page: in.page(), Actor: in.Actor, Action: in.Action,
		Kind: protocol.CatalogKind(in.Kind), ID: in.ID, Since: moment(in.Since), Until: moment(in.Until),
	})
	if err != nil {
		return nil, err
	}
	return pageOf(list, asIs[protocol.AuditRecord]), nil
}

// auditDenied writes down that a key which is good, or once was, was refused. The answer does not wait.
func (s *Server) auditDenied(ctx context.Context, r *request, why error) {
	if !s.denied.due(r.who.Actor, time.Now()) {
		return
	}
	record := protocol.RecordAuditRequest{
		Tenant: r.who.Tenant, Actor: r.who.Actor, Reason: why.Error(), RequestID: r.id, At: protocol.At(time.Now()),
	}
	ctx = context.WithoutCancel(ctx)
	s.background.Go(func() {
		if _, err := ask(ctx, s, protocol.RecordAudit, record); err != nil {
			s.rt.Logger(ctx).Warn("refused access not written to the audit: " + err.Error())
		}
	})
}
