package api

import (
	"encoding/json"
	"slices"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/gateway/internal/start"
)

// The frozen endpoints that take a spec: they answer the same at /api/v1 and at the root.

// specOf finds the spec in a body: under "workflow", as execute has it, or the body itself.
func specOf(c *fiber.Ctx, r *request) (raw json.RawMessage, under string, err error) {
	body, err := rawBody(c, r)
	if err != nil {
		return nil, "", err
	}
	var top struct {
		Workflow json.RawMessage `json:"workflow"`
		Nodes    json.RawMessage `json:"nodes"`
	}
	if err := decodeObject(r, body, &top); err != nil {
		return nil, "", err
	}
	if top.Workflow != nil && top.Nodes == nil {
		return top.Workflow, "workflow", nil
	}
	return slices.Clone(body), "", nil
}

// checked parses and validates the spec of a body.
func (s *Server) checked(c *fiber.Ctx) (*workflow.Plan, workflow.Report, error) {
	r := of(c)
	raw, under, err := specOf(c, r)
	if err != nil {
		return nil, workflow.Report{}, err
	}
	plan, report, err := s.start.Check(c.UserContext(), r.tenant, raw)
	if shape, ok := err.(*workflow.ShapeError); ok { //nolint:errorlint // Parse's own, not wrapped
		return nil, report, shapeProblem(shape, under)
	}
	return plan, report, err
}

// validate is POST /workflows/validate: 200 whatever the report says.
func (s *Server) validate(c *fiber.Ctx) error {
	_, report, err := s.checked(c)
	if err != nil {
		return err
	}
	return c.JSON(report)
}

// Built is the answer of POST /workflows/build.
type Built struct {
	Status    string `json:"status" enum:"success"`
	Message   string `json:"message"`
	NodeCount int    `json:"node_count"`
	EdgeCount int    `json:"edge_count"`
	StartNode string `json:"start_node"`
}

// build is POST /workflows/build: like execute, but it stops when the workflow is compiled.
func (s *Server) build(c *fiber.Ctx) error {
	plan, report, err := s.checked(c)
	if err != nil {
		return err
	}
	if !report.Valid {
		return &start.InvalidError{Report: report}
	}
	return c.JSON(Built{
		Status: "success", Message: "Workflow built successfully",
		NodeCount: len(plan.Spec.Nodes), EdgeCount: len(plan.Spec.Edges), StartNode: plan.Spec.StartNode,
	})
}

// NodeTypes is the answer of GET /workflows/node-types.
type NodeTypes struct {
	NodeTypes    []string          `json:"node_types"`
	Descriptions map[string]string `json:"descriptions"`
}

func (s *Server) nodeTypes(c *fiber.Ctx) error {
	types := workflow.NodeTypes()
	answer := NodeTypes{NodeTypes: make([]string, len(types)), Descriptions: make(map[string]string, len(types))}
	for i, t := range types {
		answer.NodeTypes[i], answer.Descriptions[t.Name] = t.Name, t.Description
	}
	return c.JSON(answer)
}

// SourceTypes is the answer of GET /workflows/source-types.
type SourceTypes struct {
	SourceTypes  []string          `json:"source_types"`
	Descriptions map[string]string `json:"descriptions"`
}

func (s *Server) sourceTypes(c *fiber.Ctx) error {
	kinds := workflow.SourceKinds()
	answer := SourceTypes{SourceTypes: make([]string, len(kinds)), Descriptions: make(map[string]string, len(kinds))}
	for i, k := range kinds {
		answer.SourceTypes[i], answer.Descriptions[k.Name] = k.Name, k.Description
	}
	return c.JSON(answer)
}

// Root is the answer of GET /.
type Root struct {
	Service     string `json:"service"`
	Version     string `json:"version"`
	Description string `json:"description"`
	Docs        string `json:"docs"`
	Health      string `json:"health"`
}

func (s *Server) root(c *fiber.Ctx) error {
	return c.JSON(Root{
		Service: "AgentFlow Core", Version: s.rt.Version, Description: "Stores and runs JSON agent workflows, durably",
		Docs: "/docs", Health: "/health",
	})
}

// Health is the answer of GET /health.
type Health struct {
	Status       string            `json:"status" enum:"healthy,degraded,unhealthy"`
	Timestamp    time.Time         `json:"timestamp"`
	Service      string            `json:"service"`
	Version      string            `json:"version"`
	Dependencies map[string]string `json:"dependencies" doc:"State of each dependency: ok or failed"`
}

func isHealth(path string) bool {
	return path == "/health" || path == "/health/live" || path == "/health/ready"
}

// health is GET /health: it says how things are, and answers 200 as long as it can say so.
func (s *Server) health(c *fiber.Ctx) error {
	report := s.rt.Health.Ready(c.UserContext())
	answer := Health{
		Status: "healthy", Timestamp: report.Time, Service: "agentflow-core", Version: s.rt.Version,
		Dependencies: make(map[string]string, len(report.Checks)),
	}
	switch report.Status {
	case daemon.StatusDegraded:
		answer.Status = "degraded"
	case daemon.StatusNotReady, daemon.StatusDraining:
		answer.Status = "unhealthy"
	}
	for name, check := range report.Checks {
		answer.Dependencies[name] = check.Status
	}
	return c.JSON(answer)
}

// Live is the answer of GET /health/live.
type Live struct {
	Status string `json:"status" enum:"alive"`
}

func (s *Server) live(c *fiber.Ctx) error { return c.JSON(Live{"alive"}) }

// Ready is the answer of GET /health/ready. What exactly failed is for the admin port.
type Ready struct {
	Status    string            `json:"status" enum:"ready,not_ready"`
	Checks    map[string]string `json:"checks"`
	Timestamp time.Time         `json:"timestamp"`
}

func (s *Server) ready(c *fiber.Ctx) error {
	report := s.rt.Health.Ready(c.UserContext())
	answer := Ready{Status: "ready", Timestamp: report.Time, Checks: make(map[string]string, len(report.Checks))}
	for name, check := range report.Checks {
		answer.Checks[name] = check.Status
	}
	if report.Code() != fiber.StatusOK || s.draining.Load() {
		answer.Status = "not_ready"
		c.Status(fiber.StatusServiceUnavailable)
	}
	return c.JSON(answer)
}
