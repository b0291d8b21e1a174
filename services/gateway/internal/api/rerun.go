package api

import (
	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// RerunBody may say where to begin.
type RerunBody struct {
	FromNode string `json:"from_node,omitempty" maxLength:"100" doc:"Id of the node to begin at; what was committed before it is taken over"`
}

// rerun is POST /executions/{id}/rerun; its body may be empty. It answers as execute does.
func (s *Server) rerun(c *fiber.Ctx) error {
	r := of(c)
	id, err := executionID(c.Params("id"))
	if err != nil {
		return err
	}
	var body []byte
	var given struct {
		FromNode *any `json:"from_node"`
	}
	if len(c.Request().Body()) > 0 {
		if body, err = rawBody(c, r); err != nil {
			return err
		}
		if err := decodeObject(r, body, &given); err != nil {
			return err
		}
	}
	again := &start.Rerun{Of: id}
	if given.FromNode != nil {
		from, ok := (*given.FromNode).(string)
		if !ok || from == "" {
			return badShape(shapeDetail{Type: "string_type", Loc: []any{"body", "from_node"}, Msg: "Input should be the id of a node", Input: *given.FromNode})
		}
		again.From = from
	}
	o := start.Order{Tenant: r.tenant, Actor: r.who.Actor, RequestID: r.id, Rerun: again, Wait: !async(c)}
	if o.IdempotencyKey, err = idempotencyKey(c); err != nil {
		return err
	}
	if o.IdempotencyKey != "" {
		o.Fingerprint = fingerprint("rerun", string(id), string(body))
	}
	return s.begin(c, r, o)
}
