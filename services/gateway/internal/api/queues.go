package api

import (
	"context"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// Limits are what a tenant and the key may do, and what they did in the windows now open.
type Limits struct {
	TenantID string             `json:"tenant_id"`
	Tenant   workflow.Bandwidth `json:"tenant" doc:"0 or absent: unlimited"`
	Key      workflow.Bandwidth `json:"key" doc:"Of the key alone; 0 or absent: unlimited"`
	Usage    *protocol.Usage    `json:"usage,omitempty" doc:"Of the tenant; absent while nobody counts"`
}

func (s *Server) queueRoutes() {
	s.plain(operation{
		id: "get-queue-usage", method: http.MethodGet, path: "/queues/{id}/usage", slashes: true, tag: tagQueues, scope: protocol.ScopeExecutionsRead,
		summary: "What passed a queue in the windows now open",
		description: "A queue of a stored workflow is named by the workflow's id, a slash, and the name it has there; " +
			"`requests` is the tenant's own.",
		errors: []int{http.StatusUnprocessableEntity},
	}, nil, protocol.Usage{}, func(c *fiber.Ctx) error {
		usage, err := ask(c.UserContext(), s, protocol.LimitUsage, protocol.UsageRequest{Tenant: of(c).tenant, Queue: c.Params("+")})
		if err != nil {
			return err
		}
		return c.JSON(usage)
	})
	register(s, operation{
		id: "get-limits", method: http.MethodGet, path: "/limits", tag: tagQueues, scope: protocol.ScopeExecutionsRead,
		summary: "The limits on requests, and how much of them is used",
	}, func(ctx context.Context, r *request, _ *struct{}) (*Output[Limits], error) {
		answer := Limits{
			TenantID: string(r.tenant), Tenant: bandwidth(r.who.Limits, s.opts.Limits), Key: bandwidth(r.who.KeyLimits, workflow.Bandwidth{}),
		}
		// What the limits are is known here; the usage only while the limiter answers.
		if usage, err := ask(ctx, s, protocol.LimitUsage, protocol.UsageRequest{Tenant: r.tenant, Queue: tenantQueue}); err == nil {
			answer.Usage = &usage
		}
		return &Output[Limits]{Body: answer}, nil
	})
}
