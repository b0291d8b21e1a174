package workflow_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// seeds adds the files of a name from a transcript to the corpus.
func seeds(f *testing.F, archive, file string, add func(data []byte)) {
	f.Helper()
	data, err := os.ReadFile("testdata/" + archive + ".txtar")
	require.NoError(f, err)
	for _, file2 := range txtar.Parse(data).Files {
		if strings.HasSuffix(file2.Name, "/"+file) {
			add(file2.Data)
		}
	}
}

// FuzzParse: no document panics, what parses keeps its bytes, and what validates compiles.
func FuzzParse(f *testing.F) {
	for _, archive := range []string{"validate", "plan"} {
		seeds(f, archive, "spec.json", func(data []byte) { f.Add(data) })
	}
	f.Add([]byte("\xff{}"))
	f.Add([]byte(`{"start_node":"a","nodes":[{"id":"a","type":"input"}],"timeout_seconds":1e999}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		spec, err := workflow.Parse(doc)
		if err != nil {
			var shape *workflow.ShapeError
			require.ErrorAs(t, err, &shape)
			require.NotEmpty(t, shape.Details)
			require.Len(t, shape.Problems(), len(shape.Details))
			_, err := json.Marshal(shape.Details)
			require.NoError(t, err)
			require.NotEmpty(t, shape.Error())
			return
		}
		require.Equal(t, doc, []byte(spec.Raw))
		p, report := workflow.Check(spec, workflow.Known{})
		require.Equal(t, report.Valid, p != nil)
		if !report.Valid {
			return
		}
		compiled, err := workflow.Compile(spec)
		require.NoError(t, err)
		require.Equal(t, workflow.Hash(doc), compiled.Hash)
		for i := range compiled.Nodes {
			_, err := compiled.Taken(i, workflow.Outcome{}, workflow.NewValues(nil))
			if err != nil {
				var undecided *workflow.ConditionError
				require.ErrorAs(t, err, &undecided)
			}
		}
	})
}

// FuzzTemplate: every text is a template, its parts make it up, and rendering it with nothing
// known leaves every placeholder standing.
func FuzzTemplate(f *testing.F) {
	seeds(f, "template", "template", func(data []byte) { f.Add(string(data)) })
	f.Fuzz(func(t *testing.T, text string) {
		tpl := workflow.CompileTemplate(text)
		got, err := tpl.Render(nil)
		require.NoError(t, err)
		if !strings.Contains(text, "{{") && !strings.Contains(text, "}}") {
			require.Equal(t, text, got)
		}
		require.LessOrEqual(t, len(got), len(text))
		filled := make(workflow.Values)
		for _, name := range tpl.Names() {
			filled[name] = "1"
		}
		_, err = tpl.Render(filled)
		require.NoError(t, err)
	})
}

// FuzzDecodeValues: what decodes encodes, deterministically, and survives being a delta.
func FuzzDecodeValues(f *testing.F) {
	for _, archive := range []string{"template", "input", "reduce", "aggregator"} {
		seeds(f, archive, "state.json", func(data []byte) { f.Add(data) })
	}
	f.Add([]byte(`{"cost":1e9999,"tokens_used":-0,"errors":{"a":[]},"x":"\ud800"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := workflow.DecodeValues(data)
		if err != nil {
			return
		}
		first, err := workflow.AppendJSON(nil, v)
		require.NoError(t, err)
		require.True(t, utf8.Valid(first))
		require.True(t, json.Valid(first))
		again, err := workflow.DecodeValues(first)
		require.NoError(t, err)
		second, err := workflow.AppendJSON(nil, again)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
		reduced, err := workflow.AppendJSON(nil, workflow.Reduce(workflow.NewValues(v), v))
		require.NoError(t, err)
		require.True(t, json.Valid(reduced))
	})
}

// FuzzCondition: no expression panics or runs for ever.
func FuzzCondition(f *testing.F) {
	for _, c := range []string{"intent == 'x'", "a and b", "[1,2].map(x, x*2) == []", "{", "a.b.c", "'\\", "x ? y : z", "has(state.x)", ".x", "\x00"} {
		f.Add(c)
	}
	f.Fuzz(func(t *testing.T, condition string) {
		s := chain(2)
		s.Edges[0].Condition = condition
		p, err := workflow.Compile(s)
		if err != nil {
			return
		}
		if _, err := p.Taken(0, workflow.Outcome{}, workflow.NewValues(nil)); err != nil {
			var undecided *workflow.ConditionError
			require.ErrorAs(t, err, &undecided)
		}
	})
}
