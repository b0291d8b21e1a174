package workflow_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/agentflow/agentflow/pkg/workflow"
)

var update = flag.Bool("update", false, "rewrite the answers in testdata")

// transcript runs every case of testdata/<name>.txtar. A case is a folder of the archive; its
// files are the input, and its file "want" is what run must answer.
func transcript(t *testing.T, name string, run func(t *testing.T, in map[string]string) string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txtar")
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	archive := txtar.Parse(data)

	var order []string
	cases := make(map[string]map[string]string)
	for _, f := range archive.Files {
		folder, file, ok := strings.Cut(f.Name, "/")
		require.True(t, ok, "%s: a file of a case is named case/file", f.Name)
		if cases[folder] == nil {
			cases[folder] = make(map[string]string)
			order = append(order, folder)
		}
		cases[folder][file] = string(f.Data)
	}
	require.NotEmpty(t, order)

	answers := make(map[string]string)
	for _, folder := range order {
		t.Run(folder, func(t *testing.T) {
			got := strings.TrimRight(run(t, cases[folder]), "\n") + "\n"
			answers[folder] = got
			if !*update {
				require.Equal(t, cases[folder]["want"], got)
			}
		})
	}
	if !*update {
		return
	}
	var files []txtar.File
	for _, f := range archive.Files {
		if folder, file, _ := strings.Cut(f.Name, "/"); file != "want" {
			files = append(files, f)
			if isLast(archive.Files, f.Name, folder) {
				files = append(files, txtar.File{Name: folder + "/want", Data: []byte(answers[folder])})
			}
		}
	}
	archive.Files = files
	require.NoError(t, os.WriteFile(path, txtar.Format(archive), 0o600))
}

// isLast reports whether name is the last input of its case.
func isLast(files []txtar.File, name, folder string) bool {
	last := ""
	for _, f := range files {
		if in, file, _ := strings.Cut(f.Name, "/"); in == folder && file != "want" {
			last = f.Name
		}
	}
	return last == name
}

// lines returns the lines of a file of a case that are not blank.
func lines(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) != "" {
			list = append(list, strings.TrimRight(line, "\n"))
		}
	}
	return list
}

func pretty(t *testing.T, v any) string {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	require.NoError(t, enc.Encode(v))
	return b.String()
}

func state(t *testing.T, in map[string]string) workflow.Values {
	t.Helper()
	text := in["state.json"]
	if text == "" {
		text = "{}"
	}
	v, err := workflow.DecodeValues([]byte(text))
	require.NoError(t, err)
	return v
}

// node compiles a workflow of one node.
func node(t *testing.T, typ, metadata string) *workflow.PlanNode {
	t.Helper()
	doc := fmt.Sprintf(`{"start_node":"n","nodes":[{"id":"n","type":%q,"metadata":%s}]}`, typ, metadata)
	spec, err := workflow.Parse([]byte(doc))
	require.NoError(t, err)
	p, err := workflow.Compile(spec)
	require.NoError(t, err)
	return &p.Nodes[0]
}

func answer(t *testing.T, v any, err error) string {
	t.Helper()
	if err != nil {
		return "error: " + err.Error()
	}
	data, err := workflow.AppendJSON(nil, v)
	require.NoError(t, err)
	return string(data)
}

func TestValidateTranscript(t *testing.T) {
	known := workflow.Known{Source: func(id string) (string, bool) {
		return "llm", id == "tenant-llm"
	}}
	transcript(t, "validate", func(t *testing.T, in map[string]string) string {
		t.Helper()
		spec, err := workflow.Parse([]byte(in["spec.json"]))
		if err != nil {
			var shape *workflow.ShapeError
			require.ErrorAs(t, err, &shape)
			var out strings.Builder
			for i, p := range shape.Problems() {
				d := shape.Details[i]
				loc, err := json.Marshal(d.Loc)
				require.NoError(t, err)
				fmt.Fprintf(&out, "422 %s %s %s\n    %s %s\n", d.Type, loc, d.Msg, p.Type, p.Error())
			}
			return out.String()
		}
		report := workflow.Validate(spec, known)
		_, err = workflow.Compile(spec)
		if report.Valid {
			require.NoError(t, err, "what validates compiles")
		}
		return pretty(t, report)
	})
}

func TestTemplateTranscript(t *testing.T) {
	transcript(t, "template", func(t *testing.T, in map[string]string) string {
		t.Helper()
		tpl := workflow.CompileTemplate(strings.TrimSuffix(in["template"], "\n"))
		text, err := tpl.Render(state(t, in))
		require.NoError(t, err)
		return text
	})
}

func TestRouterTranscript(t *testing.T) {
	transcript(t, "router", func(t *testing.T, in map[string]string) string {
		t.Helper()
		r := node(t, "router", in["metadata.json"]).Router
		var out strings.Builder
		for _, line := range lines(in["inputs"]) {
			input := strings.TrimSpace(line)
			v, err := workflow.DecodeValues([]byte(`{"user_input":` + input + `}`))
			require.NoError(t, err)
			intent, err := r.Decide(v)
			require.NoError(t, err)
			fmt.Fprintf(&out, "%s -> %s\n", input, intent)
		}
		for _, line := range lines(in["answers"]) {
			fmt.Fprintf(&out, "%s -> %s\n", line, r.MatchIntent(line))
		}
		if in["prompt"] != "" {
			prompt, err := r.LLMPrompt(workflow.Values{"user_input": strings.TrimSpace(in["prompt"])})
			require.NoError(t, err)
			out.WriteString(prompt)
		}
		return out.String()
	})
}

func TestInputTranscript(t *testing.T) {
	transcript(t, "input", func(t *testing.T, in map[string]string) string {
		t.Helper()
		delta, err := node(t, "input", in["metadata.json"]).Input.Run(state(t, in))
		return answer(t, delta, err)
	})
}

func TestAggregatorTranscript(t *testing.T) {
	transcript(t, "aggregator", func(t *testing.T, in map[string]string) string {
		t.Helper()
		delta, err := node(t, "aggregator", in["metadata.json"]).Aggregator.Run(state(t, in))
		return answer(t, delta, err)
	})
}

// Each line of "deltas" is folded into the state in turn.
func TestReduceTranscript(t *testing.T) {
	transcript(t, "reduce", func(t *testing.T, in map[string]string) string {
		t.Helper()
		v := workflow.NewValues(state(t, in))
		for _, line := range lines(in["deltas"]) {
			delta, err := workflow.DecodeValues([]byte(line))
			require.NoError(t, err)
			v = workflow.Reduce(v, delta)
		}
		var out strings.Builder
		for _, line := range lines(in["show"]) {
			key := strings.TrimSpace(line)
			value, _ := v.Read(key)
			fmt.Fprintf(&out, "%s = %s\n", key, answer(t, value, nil))
		}
		return out.String()
	})
}

// Each line of "taken" is a node, an outcome (an intent, failed, or -) and the state.
func TestPlanTranscript(t *testing.T) {
	transcript(t, "plan", func(t *testing.T, in map[string]string) string {
		t.Helper()
		spec, err := workflow.Parse([]byte(in["spec.json"]))
		require.NoError(t, err)
		p, err := workflow.Compile(spec)
		if err != nil {
			return "error: " + err.Error()
		}
		var out strings.Builder
		describePlan(&out, p)
		for _, line := range lines(in["taken"]) {
			fields := strings.SplitN(strings.TrimSpace(line), " ", 3)
			i, ok := p.NodeIndex(fields[0])
			require.True(t, ok, fields[0])
			var o workflow.Outcome
			switch fields[1] {
			case "-":
			case "failed":
				o.Failed = true
			default:
				o.Intent, o.HasIntent = fields[1], true
			}
			v, err := workflow.DecodeValues([]byte(fields[2]))
			require.NoError(t, err)
			taken, err := p.Taken(i, o, v)
			fmt.Fprintf(&out, "taken %s:", strings.TrimSpace(line))
			if err != nil {
				fmt.Fprintf(&out, " error: %v", err)
			}
			for _, e := range taken {
				fmt.Fprintf(&out, " %s", nameOf(p, p.Edges[e].To))
			}
			out.WriteByte('\n')
		}
		return out.String()
	})
}

func nameOf(p *workflow.Plan, node int) string {
	if node == workflow.End {
		return "END"
	}
	return p.Nodes[node].ID
}

func describePlan(out *strings.Builder, p *workflow.Plan) {
	kinds := map[workflow.EdgeKind]string{workflow.Always: "always", workflow.Pick: "pick", workflow.When: "when", workflow.OnError: "on_error"}
	for i, e := range p.Edges {
		fmt.Fprintf(out, "edge %d %s -> %s %s", i, nameOf(p, e.From), nameOf(p, e.To), kinds[e.Kind])
		if e.Back {
			fmt.Fprintf(out, " back of loop %d", e.Loop)
		}
		if len(e.Exits) > 0 {
			fmt.Fprintf(out, " exits %v", e.Exits)
		}
		if e.Queue != workflow.None {
			fmt.Fprintf(out, " queue %s", p.Spec.Queues[e.Queue].ID)
		}
		out.WriteByte('\n')
	}
	for i, l := range p.Loops {
		fmt.Fprintf(out, "loop %d header %s body", i, nameOf(p, l.Header))
		for _, n := range l.Body {
			fmt.Fprintf(out, " %s", nameOf(p, n))
		}
		fmt.Fprintf(out, " parent %d exits %v\n", l.Parent, l.Exits)
	}
	for _, n := range p.Nodes {
		fmt.Fprintf(out, "node %s in %v back %v loop %d pure %v\n", n.ID, n.In, n.Back, n.Loop, n.Pure)
	}
}
