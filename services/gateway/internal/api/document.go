package api

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// object is a part of the document as JSON.
type object = map[string]any

// openAPIDocument makes the document that clients get: what huma knows from the types, and on top of
// it what types cannot say: the answers that every operation can give, headers, and examples. A test
// writes it to assets/openapi.json (-update) and fails when what is served no longer is what is made.
func (s *Server) openAPIDocument() ([]byte, error) {
	plain, err := json.Marshal(s.api.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("write the document: %w", err)
	}
	var doc object
	if err := json.Unmarshal(plain, &doc); err != nil {
		return nil, fmt.Errorf("read the document: %w", err)
	}
	at(doc, "info")["version"] = strings.Trim(documentVersion, `"`)
	ex, err := loadExamples()
	if err != nil {
		return nil, err
	}
	components, paths := at(doc, "components"), at(doc, "paths")
	if err := describeSchemas(at(components, "schemas")); err != nil {
		return nil, err
	}
	components["responses"] = sharedResponses()
	components["headers"] = sharedHeaders()
	components["parameters"] = sharedParameters()
	for path, item := range paths {
		for method, op := range objectOf(item) {
			describeOperation(path, method, objectOf(op), ex)
		}
	}
	// Phase 1 wrote its address with a slash at the end; both answer.
	paths[frozenPrefix+"/sources/"] = slashed(at(paths, frozenPrefix+"/sources"))
	doc["security"] = []any{object{"apiKey": []any{}}, object{"bearer": []any{}}}
	out, err := encode(doc)
	if err != nil {
		return nil, fmt.Errorf("write the document: %w", err)
	}
	return out, nil
}

// at is a part of an object, made when it is not there.
func at(in object, name string) object {
	part, ok := in[name].(object)
	if !ok {
		part = object{}
		in[name] = part
	}
	return part
}

// objectOf is a part that huma has written as an object.
func objectOf(part any) object {
	o, _ := part.(object)
	return o
}

func ref(kind, name string) object { return object{"$ref": "#/components/" + kind + "/" + name} }

// slashed is a copy of a path's operations under names of their own.
func slashed(item object) object {
	out := object{}
	for method, op := range item {
		twin := maps.Clone(objectOf(op))
		twin["operationId"] = fmt.Sprint(twin["operationId"]) + "-slash"
		out[method] = twin
	}
	return out
}

// describeSchemas adds the schema of workflow documents, and what the shapes of errors promise.
func describeSchemas(schemas object) error {
	// Inside this document the parts of the workflow schema are components.
	text := strings.ReplaceAll(string(workflow.Schema()), `"#/$defs/`, `"#/components/schemas/WorkflowSpec.`)
	var spec object
	if err := json.Unmarshal([]byte(text), &spec); err != nil {
		return fmt.Errorf("read the workflow schema: %w", err)
	}
	for name, part := range at(spec, "$defs") {
		schemas["WorkflowSpec."+name] = part
	}
	for _, own := range []string{"$defs", "$schema", "$id"} {
		delete(spec, own)
	}
	schemas["WorkflowSpec"] = spec
	for schema, field := range map[string]string{"OrderSchema": "workflow", "NewWorkflow": "spec", "WorkflowChange": "spec"} {
		at(at(schemas, schema), "properties")[field] = ref("schemas", "WorkflowSpec")
	}
	schemas["WorkflowProblem"] = workflowProblemSchema()
	problem := at(schemas, "Problem")
	problem["required"] = []any{"type", "title", "status", "detail", "code", "request_id"}
	codes := make([]any, len(problems))
	for i, p := range problems {
		codes[i] = string(p.code)
	}
	at(at(problem, "properties"), "code")["enum"] = codes
	at(at(schemas, "FrozenError"), "properties")["detail"] = frozenDetailSchema()
	return nil
}

// workflowProblemSchema is what a workflow.Problem writes of itself.
func workflowProblemSchema() object {
	text := func(description string) object { return object{"type": "string", "description": description} }
	optional := func(description string) object {
		return object{"type": []any{"string", "null"}, "description": description}
	}
	return object{
		"type": "object", "additionalProperties": false, "required": []any{"type", "code", "message", "node_id", "field"},
		"properties": object{
			"type": text("Kind of error, such as source_missing"), "code": text("Its code, E001 to E014"), "message": text("What is wrong, and what to do"),
			"node_id": optional("The node at fault"), "field": optional("Where in the document"),
		},
	}
}

func frozenDetailSchema() object {
	text := object{"type": "string"}
	return object{
		"description": "A text where nothing is served, a list for 422, else an object with a message",
		"oneOf": []any{
			text,
			object{"type": "array", "items": object{
				"type": "object", "required": []any{"type", "loc", "msg", "input"}, "additionalProperties": false,
				"properties": object{
					"type": text, "msg": text, "input": object{"description": "What was sent there"},
					"loc": object{"type": "array", "items": object{"type": []any{"string", "integer"}}},
				},
			}},
			object{"type": "object", "required": []any{"message"}, "properties": object{"message": text}},
		},
	}
}

// describeOperation adds to one operation what every operation has, and its examples.
func describeOperation(path, method string, op object, ex examples) {
	id := fmt.Sprint(op["operationId"])
	frozen, open := isFrozen(path), isOpen(op)
	if op["description"] == nil {
		op["description"] = descriptions[strings.TrimSuffix(id, "-v1")]
	}
	responses := at(op, "responses")
	statuses := commonStatuses(open)
	for status := range responses {
		if n, err := strconv.Atoi(status); err == nil && n >= http.StatusBadRequest {
			statuses = append(statuses, n)
		}
	}
	for _, status := range statuses {
		responses[strconv.Itoa(status)] = ref("responses", responseName(status, frozen))
	}
	switch id {
	case "health-ready":
		// Not a problem, but the same report.
		responses["503"] = object{"description": "Service Unavailable", "content": at(at(responses, "200"), "content")}
	case "health", "health-live":
		delete(responses, "503") // answered as long as the process lives
	}
	describeAnswers(id, slices.Contains(parametersOf(id, method), "IdempotencyKey"), responses, ex)
	if open {
		return
	}
	parameters, _ := op["parameters"].([]any)
	for _, name := range parametersOf(id, method) {
		parameters = append(parameters, ref("parameters", name))
	}
	op["parameters"] = parameters
	if body, ok := op["requestBody"].(object); ok {
		media := at(at(body, "content"), "application/json")
		if list := ex.request(id); list != nil {
			media["examples"] = list
		}
	}
	for _, p := range parameters {
		exampleOfPath(path, objectOf(p))
	}
}

func isOpen(op object) bool {
	security, ok := op["security"].([]any)
	return ok && len(security) == 0
}

// describeAnswers adds headers and an example to the answers of success.
func describeAnswers(id string, repeatable bool, responses object, ex examples) {
	if strings.HasPrefix(id, "execute-") || id == "rerun-execution" {
		responses["202"] = object{
			"description": "Accepted: nobody waits for the result, which is read at Location",
			"headers":     object{"Location": ref("headers", "Location")},
			"content": object{"application/json": object{
				"schema": object{
					"type": "object", "required": []any{"execution_id", "status"}, "additionalProperties": false,
					"properties": object{"execution_id": object{"type": "string"}, "status": object{"type": "string", "enum": []any{"PENDING"}}},
				},
				"example": object{"execution_id": "exec_01jd2v8m6hf5qrgq2s9n0w3x4y", "status": "PENDING"},
			}},
		}
	}
	for status, r := range responses {
		if n, err := strconv.Atoi(status); err != nil || n >= http.StatusBadRequest {
			continue
		}
		response := objectOf(r)
		headers := at(response, "headers")
		headers["X-Request-ID"] = ref("headers", "X-Request-ID")
		if repeatable {
			headers[headerReplayed] = ref("headers", headerReplayed)
		}
		if id == "list-execution-events" {
			at(response, "content")["text/event-stream"] = object{
				"schema": object{"type": "string"},
				"example": "id: 4711.0\nevent: started.v1\ndata: {\"sequence\":4711,\"index\":0,\"type\":\"started.v1\"," +
					"\"at\":\"2026-11-23T08:00:00Z\",\"data\":{}}\n\n",
			}
		}
		media := at(at(response, "content"), "application/json")
		if answer := ex.answer(id); answer != nil && media["example"] == nil {
			media["example"] = answer
		}
	}
}

// commonStatuses are the errors that every operation can answer: what HTTP itself refuses, and for
// those behind a key what the entrance refuses.
func commonStatuses(open bool) []int {
	all := []int{
		http.StatusBadRequest, http.StatusRequestTimeout, http.StatusRequestEntityTooLarge,
		http.StatusRequestHeaderFieldsTooLarge, http.StatusInternalServerError, http.StatusServiceUnavailable,
	}
	if open {
		return all
	}
	return append(all, http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity, http.StatusTooManyRequests)
}

// parametersOf are the headers that an operation reads beside those its types name.
func parametersOf(id, method string) []string {
	names := []string{"TenantID", "RequestID"}
	if method == "post" {
		names = append(names, "IdempotencyKey")
	}
	switch {
	case strings.HasPrefix(id, "execute-"), id == "rerun-execution":
		names = append(names, "Prefer", "Mode")
	case id == "list-execution-events":
		names = append(names, "LastEventID", "After")
	}
	slices.Sort(names)
	return names
}

// exampleOfPath gives the id in an address an example where its type has none.
func exampleOfPath(path string, parameter object) {
	if parameter["in"] != "path" || parameter["example"] != nil {
		return
	}
	steps := strings.Split(strings.TrimPrefix(strings.TrimPrefix(path, frozenPrefix), "/"), "/")
	parameter["example"] = exampleIDs[steps[0]]
}

// exampleIDs are the ids in the examples, by the first step of the address.
var exampleIDs = map[string]string{
	"workflows":  "wf_01jd2v8m6hf5qrgq2s9n0w3x4y",
	"executions": "exec_01jd2v8m6hf5qrgq2s9n0w3x4y",
	"sources":    "support-model",
	"tenants":    "acme",
	"keys":       "key_01jd2v8m6hf5qrgq2s9n0w3x4y",
	"queues":     "requests",
}

// descriptions of the operations whose summaries leave something out.
var descriptions = map[string]string{
	"root":                     "Name, version and where to read on.",
	"health":                   "Always 200 while the process answers; status and dependencies say how things are.",
	"health-live":              "200 as long as the process runs. A probe that fails means: start it again.",
	"health-ready":             "200 while requests are welcome; 503 when a part that is needed is away, and from the first moment of a shutdown.",
	"validate-workflow":        "200 whatever the verdict: the report lists every error and warning. The body is the document itself, or holds it under `workflow`.",
	"build-workflow":           "As execute, but it stops when the document is compiled: 400 lists every validation error.",
	"execute-workflow":         "Waits until the execution has ended; with `Prefer: respond-async` or `?mode=async` answers 202 at once. Once accepted, the execution goes on whoever hangs up or dies. An `Idempotency-Key` makes it safe to repeat.",
	"execute-stored-workflow":  "As execute, with the stored workflow that the address names. The body may be left out.",
	"list-node-types":          "What a node's `type` may be, each with a sentence.",
	"list-source-types":        "What a source's `kind` may be, each with a sentence.",
	"list-source-kinds":        "Each kind with the keys of `config` that it needs and those that it takes.",
	"list-sources":             "Those of the tenant. Secrets are not shown: there are none, only names of environment variables.",
	"register-source":          "The same id again replaces what was there.",
	"clear-sources":            "Refused with 409 while a workflow uses one of them.",
	"get-source":               "As it is kept.",
	"update-source":            "What is left out stays as it is; `config` is replaced as a whole.",
	"unregister-source":        "Refused with 409 while a workflow uses it.",
	"test-source":              "Reaches out to it once. 200 also when it cannot be reached: the answer says so.",
	"list-workflow-versions":   "The newest first.",
	"list-workflow-executions": "The newest first, without their states.",
	"get-workflow-stats":       "Counts by status, durations, tokens and cost, in all and by day.",
	"create-tenant":            "A tenant begins without keys: make one with POST /keys.",
	"list-tenants":             "In the order of their ids.",
	"get-tenant":               "With its limits.",
	"update-tenant":            "What is left out stays as it is; `limits` are replaced as a whole. A suspended tenant's keys answer 403 at once.",
	"list-keys":                "Without their secrets, which nobody has.",
	"get-key":                  "Without its secret.",
	"update-key":               "What is left out stays as it is.",
	"get-limits":               "Of the tenant and of the key that asks.",
	"get-queue-usage":          "Counted across all executors.",
}
