package workflow_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func documentSchema(t *testing.T) *jsonschema.Schema {
	t.Helper()
	raw, err := jsonschema.UnmarshalJSON(bytes.NewReader(workflow.Schema()))
	require.NoError(t, err)
	compiler := jsonschema.NewCompiler()
	require.NoError(t, compiler.AddResource("workflow.json", raw))
	schema, err := compiler.Compile("workflow.json")
	require.NoError(t, err)
	require.Equal(t, 2020, schema.DraftVersion)
	return schema
}

// valid is the schema's verdict on a document.
func valid(t *testing.T, schema *jsonschema.Schema, doc string) error {
	t.Helper()
	value, err := jsonschema.UnmarshalJSON(strings.NewReader(doc))
	require.NoError(t, err)
	return schema.Validate(value)
}

// TestSchemaTakesTheExamples: every example names the schema, fulfils it, and is a workflow without errors.
func TestSchemaTakesTheExamples(t *testing.T) {
	schema := documentSchema(t)
	files, err := filepath.Glob("../../examples/*.json")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		doc, err := os.ReadFile(file)
		require.NoError(t, err)
		require.NoError(t, valid(t, schema, string(doc)), file)
		var named struct {
			Schema string `json:"$schema"`
		}
		require.NoError(t, json.Unmarshal(doc, &named))
		require.FileExists(t, filepath.Join(filepath.Dir(file), named.Schema), "%s names its schema for editors", file)
		spec, err := workflow.Parse(doc)
		require.NoError(t, err, file)
		report := workflow.Validate(spec, workflow.Known{})
		require.Empty(t, report.Errors, file)
	}
}

// TestSchemaRefuses: what an editor marks as wrong, the platform refuses as well.
func TestSchemaRefuses(t *testing.T) {
	schema := documentSchema(t)
	nodes := func(more string) string {
		return `{"start_node":"in","nodes":[{"id":"in","type":"input"},` + more + `],"edges":[{"from":"in","to":"x"}],` +
			`"sources":[{"id":"s","kind":"llm","config":{"provider":"echo"}}]}`
	}
	pure := func(more string) string {
		return `{"start_node":"in","nodes":[{"id":"in","type":"input"}]` + more + `}`
	}
	require.NoError(t, valid(t, schema, pure("")), "what the wrong ones are made of is right")
	require.NoError(t, valid(t, schema, nodes(`{"id":"x","type":"llm","metadata":{"source_id":"s","prompt":"hi","mine":[1]}}`)))
	for name, doc := range map[string]string{
		"not an object":        `[]`,
		"no nodes":             `{"start_node":"in"}`,
		"no start_node":        `{"nodes":[{"id":"in","type":"input"}]}`,
		"empty start_node":     `{"start_node":"","nodes":[{"id":"in","type":"input"}]}`,
		"nodes are empty":      `{"start_node":"in","nodes":[]}`,
		"node without an id":   nodes(`{"type":"input"}`),
		"node id with a dot":   nodes(`{"id":"x.y","type":"input"}`),
		"unknown node type":    nodes(`{"id":"x","type":"robot"}`),
		"metadata is text":     nodes(`{"id":"x","type":"input","metadata":"y"}`),
		"llm without a prompt": nodes(`{"id":"x","type":"llm","metadata":{"source_id":"s"}}`),
		"llm too hot":          nodes(`{"id":"x","type":"llm","metadata":{"source_id":"s","prompt":"hi","temperature":3}}`),
		"db without a query":   nodes(`{"id":"x","type":"db","metadata":{}}`),
		"unknown strategy":     nodes(`{"id":"x","type":"aggregator","metadata":{"strategy":"mix"}}`),
		"no template":          nodes(`{"id":"x","type":"aggregator","metadata":{"strategy":"template"}}`),
		"unknown method":       nodes(`{"id":"x","type":"api","metadata":{"method":"FETCH"}}`),
		"route without intent": nodes(`{"id":"x","type":"router","metadata":{"routes":[{"keywords":["a"]}]}}`),
		"timeout of 0":         nodes(`{"id":"x","type":"input","metadata":{"timeout_seconds":0}}`),
		"21 attempts":          nodes(`{"id":"x","type":"llm","metadata":{"source_id":"s","prompt":"hi","retry":{"max_attempts":21}}}`),
		"branch to nowhere":    nodes(`{"id":"x","type":"llm","metadata":{"source_id":"s","prompt":"hi","on_error":"branch"}}`),
		"edge without to":      pure(`,"edges":[{"from":"in"}]`),
		"edge to nothing":      pure(`,"edges":[{"from":"in","to":[]}]`),
		"queue without id":     pure(`,"queues":[{"from":"in","to":"end"}]`),
		"bandwidth of 0":       pure(`,"queues":[{"id":"q","from":"in","to":"end","bandwidth":{"max_requests_per_minute":0}}]`),
		"weight of 2":          pure(`,"queues":[{"id":"q","from":"in","to":"end","sub_queues":[{"id":"s","weight":2}]}]`),
		"unknown kind":         pure(`,"sources":[{"id":"s","kind":"fax","config":{}}]`),
		"llm without model":    pure(`,"sources":[{"id":"s","kind":"llm","config":{"provider":"openai"}}]`),
		"db without address":   pure(`,"sources":[{"id":"s","kind":"db","config":{}}]`),
		"unknown auth_type":    pure(`,"sources":[{"id":"s","kind":"api","config":{"base_url":"http://x","auth_type":"magic"}}]`),
		"name too long":        pure(`,"name":"` + strings.Repeat("x", 201) + `"`),
		"timeout over a day":   pure(`,"timeout_seconds":86401`),
		"node over a day":      nodes(`{"id":"x","type":"input","metadata":{"timeout_seconds":86401}}`),
		"pause over a day":     nodes(`{"id":"x","type":"llm","metadata":{"source_id":"s","prompt":"hi","retry":{"max_interval":86401}}}`),
		"query over a day":     nodes(`{"id":"x","type":"db","metadata":{"query":"select 1","timeout":86401}}`),
		"call over a day":      nodes(`{"id":"x","type":"api","metadata":{"timeout":86401}}`),
		"source over a day":    pure(`,"sources":[{"id":"s","kind":"api","config":{"base_url":"http://x","timeout":86401}}]`),
		"too many rounds":      pure(`,"max_iterations":10001`),
	} {
		require.Error(t, valid(t, schema, doc), name)
		spec, err := workflow.Parse([]byte(doc))
		if err == nil {
			report := workflow.Validate(spec, workflow.Known{})
			require.NotEmpty(t, report.Errors, "%s: the schema refuses what the platform takes", name)
		}
	}
}

// TestSchemaKnowsEveryKind compares the schema with the node types and kinds of sources that there are.
func TestSchemaKnowsEveryKind(t *testing.T) {
	var doc struct {
		Defs map[string]struct {
			Properties map[string]json.RawMessage `json:"properties"`
		} `json:"$defs"`
	}
	require.NoError(t, json.Unmarshal(workflow.Schema(), &doc))
	for _, n := range workflow.NodeTypes() {
		if n.Name == "custom" {
			continue // another test registers it
		}
		require.Contains(t, string(doc.Defs["node"].Properties["type"]), `"`+n.Name+`"`)
		require.Contains(t, doc.Defs, n.Name+"Metadata")
	}
	for _, k := range workflow.SourceKinds() {
		require.Contains(t, string(doc.Defs["source"].Properties["kind"]), `"`+k.Name+`"`)
		for _, key := range append(k.RequiredConfig, k.OptionalConfig...) {
			require.Contains(t, doc.Defs[k.Name+"Config"].Properties, key, "config of kind %s", k.Name)
		}
	}
}
