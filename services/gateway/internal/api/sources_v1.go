package api

import (
	"encoding/json"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// The source calls of Phase 1, over the store of today.

// FrozenSources is the answer of GET /api/v1/sources/.
type FrozenSources struct {
	Sources map[string]FrozenSource `json:"sources"`
	Count   int                     `json:"count"`
}

// FrozenSource is a source as Phase 1 shows it.
type FrozenSource struct {
	ID     string         `json:"id"`
	Kind   string         `json:"kind"`
	Config map[string]any `json:"config"`
}

// Registered is the answer of POST /api/v1/sources/.
type Registered struct {
	Status   string `json:"status" enum:"registered"`
	SourceID string `json:"source_id"`
	Kind     string `json:"kind"`
}

// Unregistered is the answer of DELETE /api/v1/sources/{id}.
type Unregistered struct {
	Status   string `json:"status" enum:"unregistered"`
	SourceID string `json:"source_id"`
}

// Cleared is the answer of DELETE /api/v1/sources/.
type Cleared struct {
	Status  string `json:"status" enum:"cleared"`
	Message string `json:"message"`
}

func frozenSource(k protocol.KeptSource) FrozenSource {
	if k.Config == nil {
		k.Config = map[string]any{}
	}
	return FrozenSource{ID: k.ID, Kind: k.Kind, Config: k.Config}
}

// everySource calls do with each source of the tenant.
func (s *Server) everySource(c *fiber.Ctx, do func(protocol.KeptSource) error) error {
	cursor := ""
	for {
		list, err := ask(c.UserContext(), s, protocol.ListSources, protocol.ListSourcesRequest{
			Tenant: of(c).tenant, Page: protocol.Page{Limit: protocol.MaxLimit, Cursor: cursor},
		})
		if err != nil {
			return err
		}
		for _, k := range list.Items {
			if err := do(k); err != nil {
				return err
			}
		}
		if cursor = list.NextCursor; cursor == "" {
			return nil
		}
	}
}

func (s *Server) frozenListSources(c *fiber.Ctx) error {
	answer := FrozenSources{Sources: map[string]FrozenSource{}}
	err := s.everySource(c, func(k protocol.KeptSource) error {
		answer.Sources[k.ID] = frozenSource(k)
		return nil
	})
	if err != nil {
		return err
	}
	answer.Count = len(answer.Sources)
	return c.JSON(answer)
}

func (s *Server) frozenRegisterSource(c *fiber.Ctx) error {
	r := of(c)
	source, err := frozenSourceBody(c, r)
	if err != nil {
		return err
	}
	k, err := command[protocol.KeptSource](c.UserContext(), s, r, r.tenant, protocol.VerbSourceCreate, protocol.CreateSource{Source: source, Replace: true})
	if err != nil {
		return err
	}
	s.cache.Forget(r.tenant, protocol.KindSource, k.ID)
	c.Status(fiber.StatusCreated)
	return c.JSON(Registered{"registered", k.ID, k.Kind})
}

// frozenSourceBody reads {id, kind, config}; other keys are ignored, as they always were.
func frozenSourceBody(c *fiber.Ctx, r *request) (workflow.Source, error) {
	body, err := rawBody(c, r)
	if err != nil {
		return workflow.Source{}, err
	}
	var given struct {
		ID     json.RawMessage `json:"id"`
		Kind   json.RawMessage `json:"kind"`
		Config json.RawMessage `json:"config"`
	}
	if err := decodeObject(r, body, &given); err != nil {
		return workflow.Source{}, err
	}
	rd := reading{body: body}
	var source workflow.Source
	rd.text("id", given.ID, &source.ID)
	if rd.text("kind", given.Kind, &source.Kind) && !knownKind(source.Kind) {
		rd.wrong("enum", "kind", "Input should be "+strings.Join(kindNames(), ", "), given.Kind)
	}
	if isNull(given.Config) {
		rd.missing("config")
	} else if config, err := workflow.DecodeValues(given.Config); err != nil { // numbers stay as they are
		rd.wrong("dict_type", "config", "Input should be a valid dictionary", given.Config)
	} else {
		source.Config = config
	}
	if len(rd.details) > 0 {
		return source, badShape(rd.details...)
	}
	return source, nil
}

// text reads a field that must be a string and not empty, and tells whether it was one.
func (rd *reading) text(field string, raw json.RawMessage, into *string) bool {
	switch {
	case isNull(raw):
		rd.missing(field)
	case json.Unmarshal(raw, into) != nil:
		rd.wrong("string_type", field, "Input should be a valid string", raw)
	case *into == "":
		rd.wrong("string_too_short", field, "String should have at least 1 character", raw)
	default:
		return true
	}
	return false
}

func kindNames() []string {
	kinds := workflow.SourceKinds()
	names := make([]string, len(kinds))
	for i, k := range kinds {
		names[i] = k.Name
	}
	return names
}

func knownKind(name string) bool {
	for _, k := range workflow.SourceKinds() {
		if k.Name == name {
			return true
		}
	}
	return false
}

func (s *Server) frozenGetSource(c *fiber.Ctx) error {
	k, err := ask(c.UserContext(), s, protocol.GetSource, protocol.GetSourceRequest{Tenant: of(c).tenant, ID: c.Params("id")})
	if err != nil {
		return err
	}
	return c.JSON(frozenSource(k))
}

func (s *Server) frozenDeleteSource(c *fiber.Ctx) error {
	k, err := s.dropSource(c.UserContext(), of(c), c.Params("id"), 0)
	if err != nil {
		return err
	}
	return c.JSON(Unregistered{"unregistered", k.ID})
}

func (s *Server) frozenClearSources(c *fiber.Ctx) error {
	r := of(c)
	// Collected first: a list that shrinks while it is read would skip some.
	var ids []string
	err := s.everySource(c, func(k protocol.KeptSource) error {
		ids = append(ids, k.ID)
		return nil
	})
	for _, id := range ids {
		if err == nil {
			_, err = s.dropSource(c.UserContext(), r, id, 0)
		}
	}
	if err != nil {
		return err
	}
	return c.JSON(Cleared{"cleared", "All sources cleared"})
}

func (s *Server) frozenTestSource(c *fiber.Ctx) error {
	tested, err := s.testSource(c.UserContext(), of(c), c.Params("id"))
	if err != nil {
		return err
	}
	return c.JSON(tested)
}

// SourceKinds is the answer of GET /api/v1/sources/types/available.
type SourceKinds struct {
	Types map[string]SourceKind `json:"types"`
	Count int                   `json:"count"`
}

// SourceKind describes a kind of source.
type SourceKind struct {
	Name           string   `json:"name"`
	Description    string   `json:"description"`
	RequiredConfig []string `json:"required_config" nullable:"false"`
	OptionalConfig []string `json:"optional_config" nullable:"false"`
}

func (s *Server) sourceKinds(c *fiber.Ctx) error {
	answer := SourceKinds{Types: map[string]SourceKind{}}
	for _, k := range workflow.SourceKinds() {
		answer.Types[k.Name] = SourceKind{k.Name, k.Description, k.RequiredConfig, k.OptionalConfig}
	}
	answer.Count = len(answer.Types)
	return c.JSON(answer)
}
