package api

import (
	"net/http"
	"reflect"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/gofiber/fiber/v2/middleware/cors"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// routes lays out every address. Of two that match, the one added first wins.
func (s *Server) routes() {
	s.app.Use(s.observe)
	if len(s.opts.CORSOrigins) > 0 {
		s.app.Use(cors.New(cors.Config{
			AllowOrigins:  strings.Join(s.opts.CORSOrigins, ","),
			AllowMethods:  "GET,POST,PUT,DELETE",
			AllowHeaders:  "Authorization,Content-Type,Idempotency-Key,If-Match,Last-Event-ID,Prefer,X-API-Key,X-Request-ID,X-Tenant-ID",
			ExposeHeaders: "ETag,Idempotency-Replayed,Location,Preference-Applied,RateLimit,RateLimit-Policy,Retry-After,X-RateLimit-Limit,X-RateLimit-Remaining,X-RateLimit-Reset,X-Request-ID",
			MaxAge:        600,
		}))
	}
	humaErrors()
	s.api = humafiber.New(s.app, s.openAPI())

	s.openRoutes()
	s.specRoutes("")
	s.specRoutes(frozenPrefix)
	s.frozenSourceRoutes()
	s.plain(operation{
		id: "list-execution-events", method: http.MethodGet, path: "/executions/{id}/events", tag: tagExecutions, scope: protocol.ScopeExecutionsRead,
		summary:     "Events of an execution",
		description: "A JSON list; with Accept: text/event-stream a stream: history, then live, until the execution ends. Last-Event-ID goes on without gap or repeat.",
		errors:      []int{http.StatusNotFound, http.StatusUnprocessableEntity},
	}, nil, Events{}, s.events)

	s.plain(operation{
		id: "rerun-execution", method: http.MethodPost, path: "/executions/{id}/rerun", tag: tagExecutions, scope: protocol.ScopeWorkflowsExecute,
		summary: "Run an execution again",
		description: "A new execution of the same document with the same input. With from_node, what was committed before that node is taken over and not run again. " +
			"Waits for the result, or with Prefer: respond-async answers 202.",
		errors: []int{http.StatusNotFound, http.StatusConflict, http.StatusGatewayTimeout},
	}, RerunBody{}, Executed{}, s.rerun)

	s.workflowRoutes()
	s.sourceRoutes()
	s.executionRoutes()
	s.queueRoutes()
	s.tenantRoutes()
	s.keyRoutes()
	s.docRoutes()
}

// openRoutes need no key.
func (s *Server) openRoutes() {
	open := func(id, path, tag, summary string, out any, h fiber.Handler) {
		s.app.Get(path, h)
		s.describe(operation{id: id, method: http.MethodGet, path: path, tag: tag, summary: summary}, nil, out, true)
	}
	open("root", "/", tagFrozen, "What this is", Root{}, s.root)
	open("health", "/health", tagHealth, "How the platform is", Health{}, s.health)
	open("health-live", "/health/live", tagHealth, "Whether the process answers", Live{}, s.live)
	open("health-ready", "/health/ready", tagHealth, "Whether requests are welcome", Ready{}, s.ready)
}

// specRoutes are the Phase 1 calls on workflows, which answer at the root too.
func (s *Server) specRoutes(prefix string) {
	suffix, tag := "", tagWorkflows
	if prefix != "" {
		suffix, tag = "-v1", tagFrozen
	}
	at := func(id, method, path, scope, summary string, errors ...int) operation {
		return operation{id: id + suffix, method: method, path: prefix + path, tag: tag, scope: scope, summary: summary, errors: errors}
	}
	s.plain(at("validate-workflow", http.MethodPost, "/workflows/validate", protocol.ScopeWorkflowsRead, "Check a workflow"),
		orderSchema{}, workflow.Report{}, s.validate)
	s.plain(at("build-workflow", http.MethodPost, "/workflows/build", protocol.ScopeWorkflowsRead, "Compile a workflow"),
		orderSchema{}, Built{}, s.build)
	s.plain(at("execute-workflow", http.MethodPost, "/workflows/execute", protocol.ScopeWorkflowsExecute, "Run a workflow and wait for its result",
		http.StatusNotFound, http.StatusConflict, http.StatusGatewayTimeout), orderSchema{}, Executed{}, s.execute)
	s.plain(at("execute-stored-workflow", http.MethodPost, "/workflows/{id}/execute", protocol.ScopeWorkflowsExecute, "Run a stored workflow and wait for its result",
		http.StatusNotFound, http.StatusConflict, http.StatusGatewayTimeout), storedOrderSchema{}, Executed{}, s.executeStored)
	s.plain(at("list-node-types", http.MethodGet, "/workflows/node-types", protocol.ScopeWorkflowsRead, "Kinds of nodes"), nil, NodeTypes{}, s.nodeTypes)
	s.plain(at("list-source-types", http.MethodGet, "/workflows/source-types", protocol.ScopeWorkflowsRead, "Kinds of sources"), nil, SourceTypes{}, s.sourceTypes)
	sources := at("list-source-kinds", http.MethodGet, "/sources/types/available", protocol.ScopeSourcesRead, "Kinds of sources and their configuration")
	if prefix == "" {
		sources.tag = tagSources
	}
	s.plain(sources, nil, SourceKinds{}, s.sourceKinds)
}

func (s *Server) frozenSourceRoutes() {
	at := func(id, method, path, scope, summary string, status int, errors ...int) operation {
		return operation{
			id: id + "-v1", method: method, path: frozenPrefix + path, tag: tagFrozen, scope: scope, summary: summary, status: status, errors: errors,
		}
	}
	const read, write = protocol.ScopeSourcesRead, protocol.ScopeSourcesWrite
	s.plain(at("list-sources", http.MethodGet, "/sources", read, "List sources", 200), nil, FrozenSources{}, s.frozenListSources)
	s.plain(at("register-source", http.MethodPost, "/sources", write, "Register or replace a source", 201), FrozenSource{}, Registered{}, s.frozenRegisterSource)
	s.plain(at("clear-sources", http.MethodDelete, "/sources", write, "Remove every source", 200, http.StatusConflict), nil, Cleared{}, s.frozenClearSources)
	s.plain(at("get-source", http.MethodGet, "/sources/{id}", read, "Get a source", 200, http.StatusNotFound), nil, FrozenSource{}, s.frozenGetSource)
	s.plain(at("unregister-source", http.MethodDelete, "/sources/{id}", write, "Remove a source", 200, http.StatusNotFound, http.StatusConflict),
		nil, Unregistered{}, s.frozenDeleteSource)
	s.plain(at("test-source", http.MethodPost, "/sources/{id}/test", write, "Try a source", 200, http.StatusNotFound), nil, SourceTested{}, s.frozenTestSource)
}

// plain adds an endpoint that reads and writes by itself.
func (s *Server) plain(op operation, in, out any, h fiber.Handler) {
	path := strings.NewReplacer("{", ":", "}", "").Replace(op.path)
	if op.slashes {
		path = strings.Replace(op.path, "{id}", "+", 1)
	}
	handler := func(c *fiber.Ctx) error {
		r := of(c)
		if err := s.admit(c, r, op.scope, op.tenantless); err != nil {
			return err
		}
		if op.method != http.MethodGet && op.scope == protocol.ScopeSourcesWrite {
			if err := s.checkBody(c, r); err != nil {
				return err
			}
		}
		return h(c)
	}
	s.app.Add(op.method, path, handler)
	s.describe(op, in, out, false)
}

// describe puts a plain endpoint into the document.
func (s *Server) describe(op operation, in, out any, open bool) {
	doc := s.document(op)
	doc.Middlewares = nil
	if open {
		doc.Security = []map[string][]string{}
		doc.Errors = []int{http.StatusInternalServerError}
		if op.id == "health-ready" {
			doc.Errors = append(doc.Errors, http.StatusServiceUnavailable)
		}
	}
	frozen := isFrozen(op.path)
	registry := s.api.OpenAPI().Components.Schemas
	doc.Responses = map[string]*huma.Response{
		strconv.Itoa(doc.DefaultStatus): {
			Description: op.summary,
			Content:     map[string]*huma.MediaType{fiber.MIMEApplicationJSON: {Schema: registry.Schema(reflect.TypeOf(out), true, "")}},
		},
	}
	for _, status := range doc.Errors {
		media, kind := "application/problem+json", reflect.TypeFor[Problem]()
		if frozen {
			media, kind = fiber.MIMEApplicationJSON, reflect.TypeFor[FrozenError]()
		}
		doc.Responses[strconv.Itoa(status)] = &huma.Response{
			Description: http.StatusText(status),
			Content:     map[string]*huma.MediaType{media: {Schema: registry.Schema(kind, true, "")}},
		}
	}
	for _, step := range strings.Split(op.path, "/") {
		if name, ok := strings.CutPrefix(step, "{"); ok {
			doc.Parameters = append(doc.Parameters, &huma.Param{
				Name: strings.TrimSuffix(name, "}"), In: "path", Required: true, Schema: &huma.Schema{Type: huma.TypeString},
			})
		}
	}
	if in != nil {
		doc.RequestBody = &huma.RequestBody{
			Required: op.id != "execute-stored-workflow" && op.id != "rerun-execution",
			Content:  map[string]*huma.MediaType{fiber.MIMEApplicationJSON: {Schema: registry.Schema(reflect.TypeOf(in), true, "")}},
		}
	}
	s.api.OpenAPI().AddOperation(&doc)
}
