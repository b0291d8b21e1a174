package workflow_test

import (
	"encoding/json"
	"fmt"
	"math/big"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// anySpec draws a connected workflow with edges in all directions.
func anySpec(t *rapid.T) []byte {
	n := rapid.IntRange(1, 12).Draw(t, "nodes")
	type obj = map[string]any
	var nodes, edges []any
	id := func(i int) string { return fmt.Sprintf("n%d", i) }
	for i := range n {
		node := obj{"id": id(i), "type": "input", "metadata": obj{}}
		switch rapid.SampledFrom([]string{"input", "router", "default", "branch"}).Draw(t, "type") {
		case "router":
			node["type"] = "router"
			node["metadata"] = obj{"routes": []any{obj{
				"intent": "x", "keywords": []any{"x"}, "target_node": id(rapid.IntRange(0, n-1).Draw(t, "target")),
			}}}
		case "default":
			node["type"] = "router"
			node["metadata"] = obj{"strategy": "default"}
		case "branch":
			node["metadata"] = obj{"on_error": "branch", "error_to": id(rapid.IntRange(0, n-1).Draw(t, "error_to"))}
		}
		nodes = append(nodes, node)
		if i > 0 {
			edges = append(edges, obj{"from": id(rapid.IntRange(0, i-1).Draw(t, "parent")), "to": id(i)})
		}
	}
	for range rapid.IntRange(0, 2*n).Draw(t, "more") {
		e := obj{"from": id(rapid.IntRange(0, n-1).Draw(t, "from"))}
		to := rapid.IntRange(0, n).Draw(t, "to")
		e["to"] = id(to)
		if to == n {
			e["to"] = "END"
		}
		if rapid.Bool().Draw(t, "conditional") {
			e["condition"] = "tokens_used < 3"
		}
		edges = append(edges, e)
	}
	doc, err := json.Marshal(obj{"start_node": "n0", "nodes": nodes, "edges": edges})
	require.NoError(t, err)
	return doc
}

func TestPlansAreConsistent(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		doc := anySpec(t)
		spec, err := workflow.Parse(doc)
		require.NoError(t, err)
		p, err := workflow.Compile(spec)
		require.NoError(t, err)
		requireIndexes(t, p)
		requireAcyclic(t, p)
		requireNested(t, p)
		for i := range p.Nodes {
			taken, err := p.Taken(i, workflow.Outcome{Intent: "x", HasIntent: true}, workflow.NewValues(nil))
			require.NoError(t, err)
			require.True(t, slices.IsSorted(taken))
			for _, e := range taken {
				require.Equal(t, i, p.Edges[e].From)
				require.NotEqual(t, workflow.OnError, p.Edges[e].Kind)
			}
		}
	})
}

// requireIndexes checks that nodes and edges agree on each other.
func requireIndexes(t *rapid.T, p *workflow.Plan) {
	outs, ins, backs := 0, 0, 0
	for i, n := range p.Nodes {
		at, ok := p.NodeIndex(n.ID)
		require.True(t, ok)
		require.Equal(t, i, at)
		require.Equal(t, i, n.Index)
		for _, e := range n.Out {
			require.Equal(t, i, p.Edges[e].From)
		}
		for _, e := range n.In {
			require.Equal(t, i, p.Edges[e].To)
			require.False(t, p.Edges[e].Back)
		}
		for _, e := range n.Back {
			require.Equal(t, i, p.Edges[e].To)
			require.True(t, p.Edges[e].Back)
		}
		outs, ins, backs = outs+len(n.Out), ins+len(n.In), backs+len(n.Back)
	}
	ends := 0
	for _, e := range p.Edges {
		if e.To == workflow.End {
			ends++
		}
	}
	require.Equal(t, len(p.Edges), outs)
	require.Equal(t, len(p.Edges), ins+backs+ends)
}

// requireAcyclic takes nodes away whose forward edges have all been taken away: in a graph
// without cycles none is left.
func requireAcyclic(t *rapid.T, p *workflow.Plan) {
	waits := make([]int, len(p.Nodes))
	var ready []int
	for i, n := range p.Nodes {
		if waits[i] = len(n.In); waits[i] == 0 {
			ready = append(ready, i)
		}
	}
	done := 0
	for len(ready) > 0 {
		i := ready[0]
		ready = ready[1:]
		done++
		for _, e := range p.Nodes[i].Out {
			if to := p.Edges[e].To; to != workflow.End && !p.Edges[e].Back {
				if waits[to]--; waits[to] == 0 {
					ready = append(ready, to)
				}
			}
		}
	}
	require.Equal(t, len(p.Nodes), done, "forward edges form a cycle")
}

func requireNested(t *rapid.T, p *workflow.Plan) {
	in := func(loop, node int) bool { return node != workflow.End && slices.Contains(p.Loops[loop].Body, node) }
	for i, l := range p.Loops {
		require.True(t, slices.IsSorted(l.Body))
		require.Contains(t, l.Body, l.Header)
		if l.Parent != workflow.None {
			require.Less(t, l.Parent, i, "outer loops come first")
			require.Subset(t, p.Loops[l.Parent].Body, l.Body)
			require.NotContains(t, l.Body, p.Loops[l.Parent].Header, "an inner loop does not hold the outer header")
		}
		for j := range i {
			both := slices.ContainsFunc(l.Body, func(n int) bool { return in(j, n) })
			if both {
				require.Subset(t, p.Loops[j].Body, l.Body, "loops overlap without nesting")
			}
		}
		backs := 0
		for _, e := range p.Nodes[l.Header].Back {
			if p.Edges[e].Loop == i {
				backs++
				require.True(t, in(i, p.Edges[e].From))
			}
		}
		require.Positive(t, backs, "a loop repeats by some edge")
	}
	for i, e := range p.Edges {
		var left []int
		for l := range p.Loops {
			if in(l, e.From) && !in(l, e.To) {
				left = append(left, l)
				require.Contains(t, p.Loops[l].Exits, i)
			}
		}
		slices.Reverse(left) // outer loops have lower indexes, exits run inside out
		require.Equal(t, left, e.Exits)
	}
	for i, n := range p.Nodes {
		innermost := workflow.None
		for l := range p.Loops {
			if in(l, i) {
				innermost = l
			}
		}
		require.Equal(t, innermost, n.Loop)
	}
}

func TestParseKeepsTheDocument(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		doc := anySpec(t)
		spec, err := workflow.Parse(doc)
		require.NoError(t, err)
		require.Equal(t, doc, []byte(spec.Raw))
		again, err := workflow.Parse(spec.Raw)
		require.NoError(t, err)
		require.Equal(t, spec, again)

		// Without Raw the Spec is written from its fields, and means the same.
		copied := *spec
		copied.Raw = nil
		written, err := json.Marshal(copied)
		require.NoError(t, err)
		reread, err := workflow.Parse(written)
		require.NoError(t, err)
		reread.Raw = spec.Raw
		require.Equal(t, spec, reread)
	})
}

var stateKeys = []string{
	"user_input", "intent", "text_result", "final_output", "image_result", "api_result", "metadata", "outputs",
	"db_result", "errors", "execution_path", "current_node", "tokens_used", "cost", "answer", "score",
}

func anyValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		most := 6
		if depth == 0 {
			most = 4
		}
		switch rapid.IntRange(0, most).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return rapid.String().Draw(t, "text")
		case 2:
			return json.Number(strconv.Itoa(int(rapid.Int32().Draw(t, "number"))))
		case 3:
			return json.Number(fmt.Sprintf("%d.%02d", rapid.Uint8().Draw(t, "whole"), rapid.IntRange(0, 99).Draw(t, "cents")))
		case 4:
			return rapid.Bool().Draw(t, "bool")
		case 5:
			return rapid.SliceOfN(anyValue(depth-1), 0, 3).Draw(t, "list")
		default:
			return rapid.MapOfN(rapid.SampledFrom([]string{"a", "b", "ключ", "d e"}), anyValue(depth-1), 0, 3).Draw(t, "object")
		}
	})
}

func anyValues(t *rapid.T, label string) workflow.Values {
	return workflow.Values(rapid.MapOfN(rapid.SampledFrom(stateKeys), anyValue(2), 0, 6).Draw(t, label))
}

func encode(t require.TestingT, v any) string {
	data, err := workflow.AppendJSON(nil, v)
	require.NoError(t, err)
	return string(data)
}

func TestReduceNeverMutates(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := workflow.NewValues(anyValues(t, "initial"))
		for range rapid.IntRange(1, 4).Draw(t, "steps") {
			delta := anyValues(t, "delta")
			before, change := encode(t, v), encode(t, delta)
			next := workflow.Reduce(v, delta)
			again := workflow.Reduce(v, delta)
			require.Equal(t, before, encode(t, v))
			require.Equal(t, change, encode(t, delta))
			require.Equal(t, encode(t, next), encode(t, again))
			v = next
		}
	})
}

func TestEncodingAgreesWithEncodingJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		v := anyValues(t, "values")
		got := encode(t, v)
		var want strings.Builder
		enc := json.NewEncoder(&want)
		enc.SetEscapeHTML(false)
		require.NoError(t, enc.Encode(map[string]any(v)))
		require.Equal(t, strings.TrimSuffix(want.String(), "\n"), got)
		back, err := workflow.DecodeValues([]byte(got))
		require.NoError(t, err)
		require.Equal(t, got, encode(t, back))
	})
}

func TestTextWithoutBracesIsItself(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := strings.NewReplacer("{", "", "}", "").Replace(rapid.String().Draw(t, "text"))
		got, err := workflow.CompileTemplate(text).Render(workflow.NewValues(nil))
		require.NoError(t, err)
		require.Equal(t, text, got)
	})
}

func TestCostsAddExactly(t *testing.T) {
	t.Parallel()
	amount := rapid.Custom(func(t *rapid.T) string {
		digits := rapid.StringMatching(`-?(0|[1-9][0-9]{0,12})(\.[0-9]{1,12})?`).Draw(t, "digits")
		return digits + rapid.SampledFrom([]string{"", "e3", "E-7", "e+0"}).Draw(t, "exponent")
	})
	rapid.Check(t, func(t *rapid.T) {
		amounts := rapid.SliceOfN(amount, 1, 8).Draw(t, "amounts")
		want := new(big.Rat)
		forth, back := workflow.NewValues(nil), workflow.NewValues(nil)
		for i, a := range amounts {
			r, ok := new(big.Rat).SetString(a)
			require.True(t, ok)
			want.Add(want, r)
			forth = workflow.Reduce(forth, workflow.Values{"cost": json.Number(a)})
			back = workflow.Reduce(back, workflow.Values{"cost": json.Number(amounts[len(amounts)-1-i])})
		}
		require.Equal(t, forth["cost"], back["cost"], "the order of branches does not matter")
		got, ok := new(big.Rat).SetString(string(forth["cost"].(json.Number)))
		require.True(t, ok)
		require.Zero(t, want.Cmp(got), "%v: want %s, got %s", amounts, want, forth["cost"])
	})
}
