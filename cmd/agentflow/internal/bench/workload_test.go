package bench

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestWorkflowsAreValid(t *testing.T) {
	t.Parallel()
	for _, w := range Workloads {
		if w.order == nil {
			continue
		}
		o := w.order(&target{outside: "http://127.0.0.1:1"})
		spec, err := workflow.Parse([]byte(o.workflow))
		require.NoError(t, err, w.Name)
		report := workflow.Validate(spec, workflow.Known{})
		require.True(t, report.Valid, "%s: %v", w.Name, report.Errors)
		require.Empty(t, report.Warnings, w.Name)
		require.True(t, json.Valid([]byte(o.input)), w.Name)
		require.NotEmpty(t, o.want, w.Name)
	}
}

func TestDeck(t *testing.T) {
	t.Parallel()
	counts := map[string]int{}
	for _, name := range deck {
		_, ok := find(single, name)
		require.True(t, ok, name)
		counts[name]++
	}
	mixed, ok := Find("mixed")
	require.True(t, ok)
	for name, n := range counts {
		require.Contains(t, mixed.About, fmt.Sprintf("%d %s", n, name))
	}
	require.Contains(t, mixed.About, fmt.Sprintf("of %d requests", len(deck)))
	require.Len(t, mixed.parts(), len(single)-1, "all but crud")
}

func TestWorkloadNamesDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, w := range Workloads {
		require.False(t, seen[w.Name], w.Name)
		seen[w.Name] = true
		require.NotEmpty(t, w.About)
		require.Equal(t, strings.ToLower(w.Name), w.Name)
	}
	_, ok := Find("nope")
	require.False(t, ok)
}
