package api

import (
	"encoding/json"
	"maps"
	"slices"

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
	var given map[string]json.RawMessage
	if len(c.Request().Body()) > 0 {
		if body, err = rawBody(c, r); err != nil {
			return err
		}
		if err := decodeObject(r, body, &given); err != nil {
			return err
		}
	}
	again := &start.Rerun{Of: id}
	rd := reading{body: body}
	for _, field := range slices.Sorted(maps.Keys(given)) {
		switch raw := given[field]; {
		case field != "from_node": // a misspelt one would run everything again
			rd.wrong("extra_forbidden", field, "unexpected property", raw)
		case isNull(raw):
		case json.Unmarshal(raw, &again.From) != nil || again.From == "":
			rd.wrong("string_type", field, "Input should be the id of a node", raw)
		}
	}
	if len(rd.details) > 0 {
		return badShape(rd.details...)
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
