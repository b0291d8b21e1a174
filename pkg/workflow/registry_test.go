package workflow_test

import (
	"encoding/json"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func init() {
	workflow.RegisterNodeType(workflow.NodeType{
		Name: "custom",
		Kind: "db",
		Check: func(n workflow.Node, report func(workflow.Problem)) {
			f := workflow.NodeFields(n, report)
			if f.Text("colour", "") == "green" {
				f.Invalid("colour", "green is not a colour")
			}
		},
	})
}

func TestNodeTypes(t *testing.T) {
	t.Parallel()
	var names []string
	for _, typ := range workflow.NodeTypes() {
		names = append(names, typ.Name)
	}
	require.Equal(t, []string{"input", "router", "llm", "image", "db", "aggregator", "api", "custom"}, names)

	require.Panics(t, func() { workflow.RegisterNodeType(workflow.NodeType{Name: "llm"}) })
	require.Panics(t, func() { workflow.RegisterNodeType(workflow.NodeType{}) })

	spec, err := workflow.Parse([]byte(`{"start_node":"n","nodes":[{"id":"n","type":"custom","metadata":{"colour":"green"}}]}`))
	require.NoError(t, err)
	report := workflow.Validate(spec, workflow.Known{})
	require.Len(t, report.Errors, 1)
	require.Equal(t, workflow.Problem{Type: "metadata_invalid", Code: "E003", Message: "green is not a colour", NodeID: "n", Field: "metadata.colour"}, report.Errors[0])
}

func TestCheckStandsAlone(t *testing.T) {
	t.Parallel()
	for _, typ := range workflow.NodeTypes() {
		if typ.Name == "custom" {
			continue
		}
		require.NotEmpty(t, typ.Description)
		var problems []workflow.Problem
		typ.Check(workflow.Node{ID: "n", Type: typ.Name, Metadata: map[string]any{
			"transform": 1, "strategy": 1, "temperature": "x", "size": 1, "limit": "x", "method": 1,
		}}, func(p workflow.Problem) { problems = append(problems, p) })
		require.NotEmpty(t, problems, typ.Name)
	}
}

func TestPlanNodeCarriesDefaults(t *testing.T) {
	t.Parallel()
	for typ, want := range map[string]string{
		"input": "user_input", "llm": "text_result", "image": "image_result", "db": "db_result",
		"api": "api_result", "aggregator": "final_output", "router": "intent",
	} {
		n := node(t, typ, `{"prompt":"p","query":"q","strategy":null,"routes":[{"intent":"x"}]}`)
		require.Equal(t, want, n.OutputKey, typ)
		require.Equal(t, "k", node(t, typ, `{"prompt":"p","query":"q","routes":[{"intent":"x"}],"output_key":"k"}`).OutputKey)
		require.Equal(t, typ == "input" || typ == "router" || typ == "aggregator", n.Pure)
	}
	require.False(t, node(t, "router", `{"strategy":"llm","default_intent":"x"}`).Pure)

	n := node(t, "llm", `{"prompt":"{literal}","prompt_template":"{x}","timeout_seconds":1.5,"on_error":"continue",
		"retry":{"max_attempts":5,"initial_interval":0.25,"backoff":2,"max_interval":10,"on":["429","timeout"]}}`)
	text, err := n.Prompt.Render(workflow.Values{"literal": "no"})
	require.NoError(t, err)
	require.Equal(t, "{literal}", text, "prompt is used as it stands")
	require.Equal(t, "1.5s", n.Timeout.String())
	require.Equal(t, "continue", n.OnError)
	require.Equal(t, 5, n.Retry.MaxAttempts)
	require.Equal(t, "250ms 10s", n.Retry.InitialInterval.String()+" "+n.Retry.MaxInterval.String())
	require.Equal(t, []string{"429", "timeout"}, n.Retry.On)

	n = node(t, "db", `{"query_template":"select {user_input}"}`)
	require.Equal(t, []string{"user_input"}, n.Query.Names())
	value, ok := n.Query.Parts()[1].Value(workflow.Values{"user_input": json.Number("5")})
	require.True(t, ok)
	require.Equal(t, json.Number("5"), value)
	_, ok = n.Query.Parts()[0].Value(nil)
	require.False(t, ok)
	require.False(t, n.Query.Parts()[0].Placeholder())
	require.Nil(t, node(t, "image", `{}`).Prompt)
	require.Equal(t, []string{"id"}, node(t, "api", `{"endpoint":"/x/{id}"}`).Endpoint.Names())
}

func TestFillJSON(t *testing.T) {
	t.Parallel()
	body := map[string]any{"q": "{user_input}!", "n": []any{json.Number("1"), "{tokens_used}", true}, "{k}": "{{x}}"}
	got, err := workflow.FillJSON(body, workflow.Values{"user_input": "hi", "tokens_used": json.Number("3"), "k": "no"})
	require.NoError(t, err)
	require.Equal(t, map[string]any{"q": "hi!", "n": []any{json.Number("1"), "3", true}, "{k}": "{x}"}, got)
	require.Equal(t, "{user_input}!", body["q"])
}

func TestProblemJSON(t *testing.T) {
	t.Parallel()
	for _, p := range []workflow.Problem{
		workflow.NewProblem(workflow.ProblemSourceMissing, "n", "metadata.source", "a && b < %d", 1),
		workflow.NewProblem(workflow.ProblemStartNodeMissing, "", "", "gone"),
	} {
		data, err := json.Marshal(p)
		require.NoError(t, err)
		var back workflow.Problem
		require.NoError(t, json.Unmarshal(data, &back))
		require.Equal(t, p, back)
		require.Equal(t, p.NodeID == "", strings.Contains(string(data), `"node_id":null`))
	}
	data, err := json.Marshal(workflow.Report{})
	require.NoError(t, err)
	require.JSONEq(t, `{"valid":false,"errors":[],"warnings":[]}`, string(data))
	require.Error(t, new(workflow.Problem).UnmarshalJSON([]byte("[]")))
}

func TestSpecTravelsAsJSON(t *testing.T) {
	t.Parallel()
	var spec workflow.Spec
	require.NoError(t, json.Unmarshal([]byte(support), &spec))
	data, err := json.Marshal(spec)
	require.NoError(t, err)
	require.JSONEq(t, support, string(data))
	require.Error(t, json.Unmarshal([]byte(`{"nodes":[]}`), &spec))

	spec.Sources = []workflow.Source{{ID: "s", Kind: "llm"}}
	s, ok := spec.Source("s")
	require.True(t, ok)
	require.Equal(t, "llm", s.Kind)
	_, ok = spec.Source("t")
	require.False(t, ok)
}

// The reference for users lists what the code knows, no more and no less.
func TestReferenceIsComplete(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/workflows.md")
	require.NoError(t, err)

	var types []string
	for _, typ := range workflow.NodeTypes() {
		if typ.Name != "custom" {
			types = append(types, typ.Name)
		}
	}
	require.Equal(t, types, firstColumn(string(data), "Node types"))

	var kinds []string
	for _, k := range workflow.SourceKinds() {
		require.NotEmpty(t, k.Description)
		kinds = append(kinds, k.Name)
	}
	require.Equal(t, kinds, firstColumn(string(data), "Sources"))

	source, err := os.ReadFile("problem.go")
	require.NoError(t, err)
	var problems []string
	for _, m := range regexp.MustCompile(`(?m)^\tProblem\w+ += "(\w+)"`).FindAllStringSubmatch(string(source), -1) {
		problems = append(problems, m[1])
	}
	listed := firstColumn(string(data), "Problems")
	slices.Sort(problems)
	slices.Sort(listed)
	require.Equal(t, problems, listed)
	for _, p := range problems {
		row := regexp.MustCompile("(?m)^\\| `" + p + "` \\| (E\\d+) \\|").FindStringSubmatch(string(data))
		require.NotNil(t, row, p)
		require.Equal(t, workflow.ProblemCode(p), row[1], p)
	}
}

// firstColumn reads the first column of the first table under a heading.
func firstColumn(doc, heading string) []string {
	_, rest, _ := strings.Cut(doc, "\n## "+heading+"\n")
	var column []string
	for line := range strings.Lines(rest) {
		if strings.HasPrefix(line, "#") {
			break
		}
		if m := regexp.MustCompile("^\\| `(\\w+)` \\|").FindStringSubmatch(line); m != nil {
			column = append(column, m[1])
		} else if len(column) > 0 {
			break
		}
	}
	return column
}
