package workflow_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// The bounds tested here are on work and memory; that a test ends at all, within go test's own
// limit, is the bound on time.

// chain is a workflow n0 -> n1 -> … built in code.
func chain(n int) *workflow.Spec {
	s := &workflow.Spec{StartNode: "n0"}
	for i := range n {
		s.Nodes = append(s.Nodes, workflow.Node{ID: fmt.Sprintf("n%d", i), Type: "input"})
		if i > 0 {
			s.Edges = append(s.Edges, workflow.Edge{From: fmt.Sprintf("n%d", i-1), To: []string{fmt.Sprintf("n%d", i)}})
		}
	}
	return s
}

func TestLargeGraphs(t *testing.T) {
	t.Parallel()
	const n = workflow.MaxNodes
	id := func(i int) string { return fmt.Sprintf("n%d", i) }

	t.Run("chain", func(t *testing.T) {
		t.Parallel()
		p, report := workflow.Check(chain(n), workflow.Known{})
		require.True(t, report.Valid)
		require.Len(t, p.Edges, n-1)
	})
	t.Run("one loop around everything", func(t *testing.T) {
		t.Parallel()
		s := chain(n)
		s.Edges = append(s.Edges, workflow.Edge{From: id(n - 1), To: []string{id(0)}})
		p, report := workflow.Check(s, workflow.Known{})
		require.True(t, report.Valid)
		require.Len(t, p.Loops, 1)
		require.Len(t, p.Loops[0].Body, n)
		require.Less(t, len(report.Warnings[0].Message), 1000)
	})
	t.Run("star", func(t *testing.T) {
		t.Parallel()
		s := chain(1)
		e := workflow.Edge{From: "n0"}
		for i := 1; i < n; i++ {
			s.Nodes = append(s.Nodes, workflow.Node{ID: id(i), Type: "input"})
			e.To = append(e.To, id(i))
		}
		s.Edges = []workflow.Edge{e}
		require.True(t, workflow.Validate(s, workflow.Known{}).Valid)
	})
	t.Run("every node leads back", func(t *testing.T) {
		t.Parallel()
		s := chain(n)
		for i := 1; i < n; i++ {
			s.Edges = append(s.Edges, workflow.Edge{From: id(i), To: []string{id(i - 1)}})
		}
		report := workflow.Validate(s, workflow.Known{})
		require.False(t, report.Valid)
		require.Equal(t, workflow.ProblemCycleDetected, report.Errors[0].Type)
		require.Contains(t, report.Errors[0].Message, "nest deeper")
	})
	t.Run("everything leads everywhere", func(t *testing.T) {
		t.Parallel()
		s := chain(50)
		for i := range 50 {
			for j := range 50 {
				s.Edges = append(s.Edges, workflow.Edge{From: id(i), To: []string{id(j)}})
			}
		}
		p, report := workflow.Check(s, workflow.Known{})
		require.True(t, report.Valid)
		require.Len(t, p.Loops, 50)
	})
	t.Run("orphans", func(t *testing.T) {
		t.Parallel()
		s := chain(n)
		s.Edges = nil
		report := workflow.Validate(s, workflow.Known{})
		require.Len(t, report.Errors, 1001, "the report is bounded")
		require.Contains(t, report.Errors[1000].Message, "8999 more problems")
	})
	t.Run("too many conditions", func(t *testing.T) {
		t.Parallel()
		s := chain(1001)
		for i := range s.Edges {
			s.Edges[i].Condition = fmt.Sprintf("tokens_used < %d", i)
		}
		require.True(t, workflow.Validate(s, workflow.Known{}).Valid)
		s.Edges = append(s.Edges, workflow.Edge{From: "n0", To: []string{"end"}, Condition: "true"}, workflow.Edge{From: "n0", To: []string{"end"}, Condition: "false"})
		report := workflow.Validate(s, workflow.Known{})
		require.Len(t, report.Errors, 1)
		require.Contains(t, report.Errors[0].Message, "1000 different conditions")
	})
}

func TestDocumentLimits(t *testing.T) {
	t.Parallel()
	list := func(n int, item string) string {
		return "[" + strings.TrimSuffix(strings.Repeat(item+",", n), ",") + "]"
	}
	const start = `{"start_node":"a","nodes":[{"id":"a","type":"input"}]`
	for name, c := range map[string]struct{ doc, want string }{
		"nodes":        {`{"start_node":"a","nodes":` + list(10_001, `{"id":"a","type":"input"}`) + `}`, "at most 10000 nodes are allowed, not 10001"},
		"edges":        {start + `,"edges":` + list(50_001, `{"from":"a","to":"a"}`) + `}`, "at most 50000 edges are allowed, not 50001"},
		"edge targets": {start + `,"edges":[{"from":"a","to":` + list(50_001, `"a"`) + `}]}`, "at most 50000 edge targets are allowed, not 50001"},
		"queues":       {start + `,"queues":` + list(1001, `{"id":"q","from":"a","to":"a"}`) + `}`, "at most 1000 queues are allowed, not 1001"},
		"sub-queues":   {start + `,"queues":[{"id":"q","from":"a","to":"a","sub_queues":` + list(1001, `{"id":"s","weight":1}`) + `}]}`, "at most 1000 sub_queues"},
		"sources":      {start + `,"sources":` + list(1001, `{"id":"s","kind":"llm"}`) + `}`, "at most 1000 sources are allowed, not 1001"},
		"depth":        {start + `,"x":` + strings.Repeat("[", 64) + strings.Repeat("]", 64) + `}`, "nested deeper than 64"},
		"endless":      {strings.Repeat(`{"a":[`, 1_000_000), "nested deeper than 64"},
		"not UTF-8":    {start + ",\"x\":\"\xff\"}", "not valid UTF-8"},
		"long id":      {start + `,"queues":[{"id":"` + strings.Repeat("q", 201) + `","from":"a","to":"a"}]}`, "at most 200 characters"},
		"control id":   {start + `,"sources":[{"id":"a\u0000","kind":"llm"}]}`, "control characters"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := workflow.Parse([]byte(c.doc))
			var shape *workflow.ShapeError
			require.ErrorAs(t, err, &shape)
			require.Contains(t, err.Error(), c.want)
			require.Less(t, len(err.Error()), 1000)
		})
	}
	t.Run("as deep as allowed", func(t *testing.T) {
		t.Parallel()
		_, err := workflow.Parse([]byte(start + `,"x":` + strings.Repeat("[", 63) + strings.Repeat("]", 63) + `}`))
		require.NoError(t, err)
	})
	t.Run("errors are bounded", func(t *testing.T) {
		t.Parallel()
		_, err := workflow.Parse([]byte(`{"start_node":"a","nodes":` + list(9_999, `{}`) + `}`))
		var shape *workflow.ShapeError
		require.ErrorAs(t, err, &shape)
		require.Len(t, shape.Details, 1001)
	})
}

func TestSpecBuiltInCode(t *testing.T) {
	t.Parallel()
	self := map[string]any{}
	self["self"] = self
	s := &workflow.Spec{
		StartNode:      "nowhere",
		TimeoutSeconds: -1,
		MaxIterations:  -1,
		Nodes: []workflow.Node{
			{ID: "a.b", Type: "robot"},
			{ID: "r", Type: "router", Metadata: map[string]any{"routes": 5, "timeout_seconds": math.NaN()}},
			{ID: "x", Type: "llm", Metadata: map[string]any{"prompt": self, "temperature": 3, "retry": workflow.Values{"on": []string{"5xx"}}}},
		},
		Edges:   []workflow.Edge{{From: "zz", To: []string{"yy"}}, {From: "x"}},
		Queues:  []workflow.Queue{{ID: "q", From: "zz", To: "yy"}},
		Sources: []workflow.Source{{Kind: "llm", Config: map[string]any{"model": "m"}}},
	}
	report := workflow.Validate(s, workflow.Known{})
	require.False(t, report.Valid)
	types := make(map[string]bool)
	for _, p := range report.Errors {
		require.NotEmpty(t, p.Code)
		types[p.Type] = true
	}
	for _, want := range []string{
		workflow.ProblemStartNodeInvalid, workflow.ProblemNodeTypeInvalid, workflow.ProblemEdgeSourceInvalid,
		workflow.ProblemEdgeTargetInvalid, workflow.ProblemQueueSourceInvalid, workflow.ProblemQueueTargetInvalid,
		workflow.ProblemSpecInvalid, workflow.ProblemMetadataInvalid,
	} {
		require.True(t, types[want], want)
	}
	_, err := workflow.Compile(s)
	var invalid *workflow.InvalidError
	require.ErrorAs(t, err, &invalid)
	require.Contains(t, err.Error(), "more)")

	empty := workflow.Validate(&workflow.Spec{}, workflow.Known{})
	require.Equal(t, workflow.ProblemStartNodeMissing, empty.Errors[1].Type)
}

func TestConditionsEnd(t *testing.T) {
	t.Parallel()
	ten := "[0,1,2,3,4,5,6,7,8,9]"
	bomb := "true"
	for range 8 {
		bomb = ten + ".all(x, " + bomb + ")"
	}
	text := strings.Repeat("ab", 1<<19)
	for name, condition := range map[string]string{
		"nested macros": bomb,
		"growing text":  ten + ".map(x, user_input + user_input).size() == " + ten + ".map(x, user_input + user_input).size() && " + bomb,
		"regex":         "user_input.matches('(a|b|ab)*c') || " + bomb,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := chain(2)
			s.Edges[0].Condition = condition
			p, err := workflow.Compile(s)
			require.NoError(t, err)
			_, err = p.Taken(0, workflow.Outcome{}, workflow.Values{"user_input": text})
			var undecided *workflow.ConditionError
			require.ErrorAs(t, err, &undecided)
			require.Contains(t, err.Error(), "cost limit")
			require.ErrorIs(t, err, undecided.Err)
		})
	}
	for name, condition := range map[string]string{
		"long":        "'" + strings.Repeat("x", 4096) + "' == 'x'",
		"deep":        strings.Repeat("(", 2000) + "true" + strings.Repeat(")", 2000),
		"own regex":   "user_input.matches(user_input)",
		"regex size":  "user_input.matches('(x{100}){10}y{1000}z{1000}')",
		"NUL":         "a == \x00",
		"replacement": "user_input.replace('', user_input) == ''",
		"joining":     "user_input.split('').join(user_input) == ''",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := chain(2)
			s.Edges[0].Condition = condition
			_, err := workflow.Compile(s)
			require.Error(t, err)
			require.Less(t, len(err.Error()), 1000)
		})
	}
}

func TestTemplatesEnd(t *testing.T) {
	t.Parallel()
	big := workflow.Values{"big": strings.Repeat("x", 1<<20)}
	_, err := workflow.CompileTemplate(strings.Repeat("{big}", 5)).Render(big)
	require.ErrorContains(t, err, "grows beyond")

	for name, text := range map[string]string{
		"open braces":  strings.Repeat("{", 2<<20),
		"closing":      strings.Repeat("}", 2<<20),
		"open paths":   strings.Repeat("{a.b[", 1<<18),
		"long path":    "{a" + strings.Repeat(".b", 1<<19) + "}",
		"placeholders": strings.Repeat("{a}", 1<<18),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := workflow.CompileTemplate(text).Render(nil)
			require.NoError(t, err)
			require.LessOrEqual(t, len(got), len(text))
		})
	}
	_, err = workflow.FillJSON([]any{"{big}{big}", "{big}{big}", "{big}"}, big)
	require.ErrorContains(t, err, "grows beyond")
	_, err = node(t, "aggregator", `{"strategy":"concat","source_keys":["big","big","big","big","big"]}`).Aggregator.Run(big)
	require.ErrorContains(t, err, "grows beyond")
}

func TestDeepValues(t *testing.T) {
	t.Parallel()
	_, err := workflow.DecodeValues([]byte(`{"a":` + strings.Repeat("[", 1_000_000)))
	require.ErrorContains(t, err, "deeper than 1000")
	var deep any = "x"
	for range 1001 {
		deep = []any{deep}
	}
	_, err = workflow.AppendJSON(nil, deep)
	require.ErrorContains(t, err, "deeper than 1000")
	self := map[string]any{}
	self["self"] = self
	_, err = workflow.AppendJSON(nil, self)
	require.Error(t, err)
	_, err = workflow.FillJSON(self, nil)
	require.Error(t, err)
	_, err = workflow.CompileTemplate("{a}").Render(workflow.Values{"a": self})
	require.Error(t, err)
	_, err = node(t, "router", `{"routes":[{"intent":"x","keywords":["y"]}]}`).Router.Decide(workflow.Values{"user_input": self})
	require.Error(t, err)
	_, err = node(t, "aggregator", `{"strategy":"concat"}`).Aggregator.Run(workflow.Values{"text_result": self})
	require.Error(t, err)
}

func TestDecodeValuesRefuses(t *testing.T) {
	t.Parallel()
	for _, doc := range []string{"", "null", "[]", `"x"`, "{} {}", "{", `{"a":}`, `{"a"}`, `{"a":1,}`, `{a:1}`, `{"a":[1,]}`, `{"a":[1 2]}`, `{"a":01}`, `{"a":tru}`, `{"a":"\x"}`, `{"a":"\u12"}`, "{\"a\":\"\n\"}", "{\"a\\\n\":1}", `{"a":"\`, "{}\x00"} {
		_, err := workflow.DecodeValues([]byte(doc))
		require.Error(t, err, doc)
	}
}

func TestNumbersBeyondReason(t *testing.T) {
	t.Parallel()
	v := workflow.NewValues(nil)
	for _, cost := range []any{
		json.Number("1e65"), json.Number("1e-65"), json.Number("1e99999999999"), json.Number("abc"), json.Number(""),
		json.Number("--1"), json.Number("1_0"), json.Number(strings.Repeat("9", 600)), math.NaN(), math.Inf(1), "5", true,
	} {
		got := workflow.Reduce(v, workflow.Values{"cost": cost, "tokens_used": cost})
		require.Equal(t, json.Number("0.0"), got["cost"], "%v", cost)
		require.Equal(t, json.Number("0"), got["tokens_used"], "%v", cost)
	}
	sum := v
	for _, cost := range []any{1, int64(2), int32(3), uint64(4), 0.1, json.Number("-0.05")} {
		sum = workflow.Reduce(sum, workflow.Values{"cost": cost, "tokens_used": cost})
	}
	require.Equal(t, json.Number("10.05"), sum["cost"])
	require.Equal(t, json.Number("10"), sum["tokens_used"])
}

func TestEncodingOfGoValues(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		`["a","b"]`:              []string{"a", "b"},
		`[{"a":1},{}]`:           []map[string]any{{"a": 1}, {}},
		`{"k":"<&>"}`:            map[string]string{"k": "<&>"},
		`1e+21`:                  1e21,
		`1e-7`:                   1e-7,
		`0.000001`:               1e-6,
		`-2`:                     int64(-2),
		`7`:                      uint8(7),
		`null`:                   map[string]any(nil),
		`"\u001f\\\"\t\b\f\n\r"`: "\x1f\\\"\t\b\f\n\r",
		`"\u2028�x"`:             "\u2028\xffx",
	} {
		require.Equal(t, want, encode(t, v))
		var plain any
		require.NoError(t, json.Unmarshal([]byte(want), &plain))
	}
	for _, v := range []any{math.NaN(), math.Inf(-1), json.Number("01"), json.Number("1."), json.Number("1e"), json.Number("-"), json.Number("1x"), func() {}} {
		_, err := workflow.AppendJSON(nil, v)
		require.Error(t, err)
		_, err = workflow.AppendJSON(nil, map[string]any{"a": []any{v}})
		require.Error(t, err)
	}
}

func TestReduceSharesNothingThatChanges(t *testing.T) {
	t.Parallel()
	base := workflow.NewValues(workflow.Values{"db_result": make([]any, 1, 100), "metadata": map[string]any{"a": 1}})
	before := maps.Clone(base)
	one := workflow.Reduce(base, workflow.Values{"db_result": []any{"one"}, "metadata": map[string]any{"b": 1}})
	two := workflow.Reduce(base, workflow.Values{"db_result": []string{"two"}, "metadata": workflow.Values{"b": 2}})
	require.Equal(t, before, base)
	require.Equal(t, []any{nil, "one"}, one["db_result"])
	require.Equal(t, []any{nil, "two"}, two["db_result"], "two branches append to one array without meeting")
}

// A list of nodes that is refused as a whole is one problem, not one for every edge that names a node in it.
func TestNodesRefusedAsAWhole(t *testing.T) {
	t.Parallel()
	const n = workflow.MaxNodes + 1
	var nodes, edges []string
	for i := range n {
		nodes = append(nodes, fmt.Sprintf(`{"id":"n%d","type":"input"}`, i))
		edges = append(edges, fmt.Sprintf(`{"from":"n%d","to":"n%d"}`, i, i+1))
	}
	rest := `"start_node":"n0","edges":[` + strings.Join(edges[:n-1], ",") + `],"queues":[{"id":"q","from":"n0","to":"n1"}]`
	for name, list := range map[string]string{
		"too many": "[" + strings.Join(nodes, ",") + "]", "text": `"n0"`, "null": "null", "an object": `{"n0":{}}`,
	} {
		_, err := workflow.Parse([]byte(`{"nodes":` + list + `,` + rest + `}`))
		var shape *workflow.ShapeError
		require.ErrorAs(t, err, &shape, name)
		require.Equal(t, 1, len(shape.Problems()), name) // the list may be too long to print
		require.Equal(t, "nodes", shape.Problems()[0].Field, name)
	}
	_, err := workflow.Parse([]byte(`{` + rest + `}`))
	var shape *workflow.ShapeError
	require.ErrorAs(t, err, &shape)
	require.Equal(t, 1, len(shape.Problems()))
	require.Contains(t, shape.Problems()[0].Message, "required")
}
