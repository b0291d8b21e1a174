package workflow_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// sample is a workflow of n nodes of all kinds: routers with patterns, fan-outs that join,
// prompts, and a condition for every ten nodes.
func sample(n int) []byte {
	var nodes, edges []string
	for i := range n {
		var node string
		switch i % 5 {
		case 0:
			node = `"type":"input","metadata":{"validate":{"required":true}}`
		case 1:
			node = `"type":"router","metadata":{"strategy":"pattern","routes":[{"intent":"order","pattern":"order\\s+\\d+"},{"intent":"hi","pattern":"hi|hello"}]}`
		case 2:
			node = `"type":"llm","metadata":{"source_id":"model","prompt_template":"Answer {user_input} as { \"valid\": true } for {metadata.user}","retry":{"max_attempts":3}}`
		case 3:
			node = `"type":"llm","metadata":{"source_id":"model","prompt_template":"Summarise {text_result}","output_key":"summary"}`
		case 4:
			node = `"type":"aggregator","metadata":{"strategy":"template","template":"{text_result}: {summary}"}`
		}
		nodes = append(nodes, fmt.Sprintf(`{"id":"n%d",%s}`, i, node))
	}
	edge := func(from, to int, condition string) {
		if to < n {
			edges = append(edges, fmt.Sprintf(`{"from":"n%d","to":"n%d","condition":%q}`, from, to, condition))
		}
	}
	for i := 0; i < n; i += 5 {
		edge(i, i+1, "")
		edge(i+1, i+2, "intent")
		edge(i+1, i+3, "intent")
		edge(i+2, i+4, "")
		edge(i+3, i+4, "")
		condition := ""
		if i%10 == 0 {
			condition = fmt.Sprintf("tokens_used < %d && summary != ''", 1000+i)
		}
		edge(i+4, i+5, condition)
	}
	return fmt.Appendf(nil, `{"start_node":"n0","nodes":[%s],"edges":[%s],"sources":[{"id":"model","kind":"llm","config":{"provider":"echo"}}]}`,
		strings.Join(nodes, ","), strings.Join(edges, ","))
}

var sizes = []int{5, 50, 1000}

func TestSamplesAreValid(t *testing.T) {
	t.Parallel()
	for _, n := range sizes {
		spec, err := workflow.Parse(sample(n))
		require.NoError(t, err)
		report := workflow.Validate(spec, workflow.Known{})
		require.Empty(t, report.Errors)
	}
}

func BenchmarkParse(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			doc := sample(n)
			b.ReportAllocs()
			b.SetBytes(int64(len(doc)))
			for b.Loop() {
				if _, err := workflow.Parse(doc); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func parsed(b *testing.B, n int) *workflow.Spec {
	b.Helper()
	spec, err := workflow.Parse(sample(n))
	require.NoError(b, err)
	return spec
}

func BenchmarkValidate(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			spec := parsed(b, n)
			b.ReportAllocs()
			for b.Loop() {
				workflow.Validate(spec, workflow.Known{})
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			spec := parsed(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := workflow.Compile(spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkParseAndCheck is a document's whole way to a plan: one whose conditions nobody has compiled before, and one that
// comes again.
func BenchmarkParseAndCheck(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("new/nodes=%d", n), func(b *testing.B) {
			sent := sample(n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				// Every text is as long as the next.
				doc := bytes.ReplaceAll(sent, []byte("summary != '"), fmt.Appendf(nil, "summary != '%08d", i))
				spec, err := workflow.Parse(doc)
				if err != nil {
					b.Fatal(err)
				}
				if _, report := workflow.Check(spec, workflow.Known{}); !report.Valid {
					b.Fatal(report.Errors)
				}
			}
		})
		b.Run(fmt.Sprintf("again/nodes=%d", n), func(b *testing.B) {
			doc := sample(n)
			b.ReportAllocs()
			for b.Loop() {
				spec, err := workflow.Parse(doc)
				if err != nil {
					b.Fatal(err)
				}
				if _, report := workflow.Check(spec, workflow.Known{}); !report.Valid {
					b.Fatal(report.Errors)
				}
			}
		})
	}
}

func benchState() workflow.Values {
	v := workflow.NewValues(workflow.Values{"user_input": "Where is order 12? <b>Now</b>"})
	for i := range 10 {
		v = workflow.Reduce(v, workflow.Values{
			"execution_path": []any{fmt.Sprintf("n%d", i)},
			"tokens_used":    json.Number("12"),
			"cost":           json.Number("0.00042"),
			"answer":         map[string]any{"text": strings.Repeat("lorem ipsum ", 20), "score": 0.5},
		})
	}
	return v
}

func BenchmarkAppendJSON(b *testing.B) {
	v := benchState()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = workflow.AppendJSON(buf[:0], v); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEncodingJSON is what AppendJSON stands in for.
func BenchmarkEncodingJSON(b *testing.B) {
	v := benchState()
	enc := json.NewEncoder(io.Discard)
	enc.SetEscapeHTML(false)
	b.ReportAllocs()
	for b.Loop() {
		if err := enc.Encode(v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReduce(b *testing.B) {
	v := benchState()
	delta := workflow.Values{"text_result": "x", "tokens_used": json.Number("7"), "cost": json.Number("0.0001"), "execution_path": []any{"n"}}
	b.ReportAllocs()
	for b.Loop() {
		workflow.Reduce(v, delta)
	}
}

func BenchmarkTaken(b *testing.B) {
	spec, err := workflow.Parse([]byte(`{"start_node":"a","nodes":[{"id":"a","type":"input"},{"id":"b","type":"input"}],
		"edges":[{"from":"a","to":"b","condition":"tokens_used < 1000 && intent == 'text'"},{"from":"a","to":"b"}]}`))
	require.NoError(b, err)
	p, err := workflow.Compile(spec)
	require.NoError(b, err)
	v := benchState()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Taken(0, workflow.Outcome{Intent: "text", HasIntent: true}, v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRender(b *testing.B) {
	tpl := workflow.CompileTemplate(`Answer {user_input} as { "valid": true } with {answer.text} and {tokens_used}`)
	v := benchState()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tpl.Render(v); err != nil {
			b.Fatal(err)
		}
	}
}
