package api

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// orderSchema documents the body of validate, build and execute, which is read by hand.
type orderSchema struct {
	Workflow       map[string]any `json:"workflow,omitempty" doc:"The workflow document; or name a stored one by workflow_id"`
	WorkflowID     string         `json:"workflow_id,omitempty" doc:"A stored workflow, instead of workflow"`
	InitialState   map[string]any `json:"initial_state,omitempty" doc:"Overlays the state in which every execution begins"`
	TimeoutSeconds float64        `json:"timeout_seconds,omitempty" exclusiveMinimum:"0" maximum:"604800"`
	MaxIterations  int            `json:"max_iterations,omitempty" minimum:"1" maximum:"10000"`
	Tags           []string       `json:"tags,omitempty" maxItems:"20"`
}

// storedOrderSchema is orderSchema where the address names the workflow.
type storedOrderSchema struct {
	InitialState   map[string]any `json:"initial_state,omitempty"`
	TimeoutSeconds float64        `json:"timeout_seconds,omitempty" exclusiveMinimum:"0" maximum:"604800"`
	MaxIterations  int            `json:"max_iterations,omitempty" minimum:"1" maximum:"10000"`
	Tags           []string       `json:"tags,omitempty" maxItems:"20"`
}

// Executed is the answer of an execution that completed.
type Executed struct {
	Status          string         `json:"status" enum:"success"`
	FinalState      map[string]any `json:"final_state"`
	ExecutionTimeMS int64          `json:"execution_time_ms"`
	TokensUsed      int64          `json:"tokens_used"`
	Cost            float64        `json:"cost"`
	Error           *string        `json:"error" nullable:"true"`
	ExecutionID     string         `json:"execution_id"`
}

// FrozenError is the shape of every error of Phase 1: detail is a text, an object with a message,
// or for 422 a list.
type FrozenError struct {
	Detail any `json:"detail"`
}

// openAPI is the document's frame.
func (s *Server) openAPI() huma.Config {
	config := huma.DefaultConfig("AgentFlow", s.rt.Version)
	config.Info.Description = "Stores and runs JSON agent workflows for many tenants, durably."
	config.Info.License = &huma.License{Name: "Apache-2.0", Identifier: "Apache-2.0"}
	config.Servers = []*huma.Server{{URL: "/", Description: "This gateway"}}
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = "", "", "" // served below, from memory
	config.CreateHooks = nil                                             // no $schema in answers
	config.Components.Schemas = huma.NewMapRegistry("#/components/schemas/", schemaName)
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"apiKey": {Type: "apiKey", In: "header", Name: headerKey},
		"bearer": {Type: "http", Scheme: "bearer"},
	}
	config.Tags = append(config.Tags, []*huma.Tag{
		{Name: tagWorkflows, Description: "Store workflows and run them."},
		{Name: tagSources, Description: "What workflows reach outside: models, databases, APIs."},
		{Name: tagExecutions, Description: "Watch and steer what runs."},
		{Name: tagQueues, Description: "Limits and what they let through."},
		{Name: tagTenants, Description: "Tenants, their keys and their audit; for administrators."},
		{Name: tagHealth, Description: "For probes."},
		{Name: tagFrozen, Description: "The calls of Phase 1, frozen."},
	}...)
	config.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[protocol.Time](), reflect.TypeFor[*time.Time]())
	config.Components.Schemas.RegisterTypeAlias(reflect.TypeFor[json.Number](), reflect.TypeFor[float64]())
	return config
}

// schemaName keeps types of different packages apart that bear the same name.
func schemaName(t reflect.Type, hint string) string {
	name := huma.DefaultSchemaNamer(t, hint)
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.PkgPath() == reflect.TypeFor[workflow.Problem]().PkgPath() {
		return "Workflow" + name
	}
	return name
}

// writtenDocument is the document as openAPIDocument makes it, which a test does: making it takes tens of
// milliseconds and megabytes, and it says the same in every gateway but for its version.
//
//go:embed assets/openapi.json
var writtenDocument []byte

// documentVersion stands in writtenDocument for the version of the gateway.
const documentVersion = `"0.0.0-written"`

// docRoutes serve the document and its readers.
func (s *Server) docRoutes() {
	document := sync.OnceValue(func() []byte {
		return bytes.Replace(writtenDocument, []byte(documentVersion), []byte(strconv.Quote(s.rt.Version)), 1)
	})
	s.app.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, fiber.MIMEApplicationJSON)
		c.Set(fiber.HeaderCacheControl, "no-cache")
		c.Response().SetBodyRaw(document())
		return nil
	})
	schema := workflow.Schema()
	s.app.Get("/schemas/workflow.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/schema+json")
		c.Set(fiber.HeaderCacheControl, "public, max-age=3600")
		c.Response().SetBodyRaw(schema)
		return nil
	})
	assets := sync.OnceValues(loadAssets)
	for _, address := range []string{
		"/docs", "/docs/start.js", "/docs/swagger-ui.css", "/docs/swagger-ui-bundle.js",
		"/redoc", "/redoc/start.js", "/redoc/redoc.standalone.js",
	} {
		s.app.Get(address, func(c *fiber.Ctx) error {
			all, err := assets()
			if err != nil {
				return err
			}
			return all[address].send(c)
		})
	}
}
