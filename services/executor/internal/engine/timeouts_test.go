package engine

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

func TestTimeoutsAreCountedByWorkflow(t *testing.T) {
	t.Parallel()
	counted := newTimeouts()
	for n := range mostWorkflows + 50 {
		counted.count(fmt.Sprint("wf_", n), protocol.TimedOut{Scope: protocol.ScopeNode})
	}
	counted.count("wf_0", protocol.TimedOut{Scope: protocol.ScopeNode})
	counted.count("wf_0", protocol.TimedOut{Scope: protocol.ScopeExecution})
	counted.count("", protocol.TimedOut{Scope: protocol.ScopeExecution})
	counted.count("wf_0", protocol.Failed{})
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(counted))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Len(t, families, 1)
	values := map[string]float64{}
	for _, m := range families[0].GetMetric() {
		values[m.GetLabel()[0].GetValue()+"/"+m.GetLabel()[1].GetValue()] = m.GetCounter().GetValue()
	}
	require.Len(t, values, mostWorkflows+3, "200 workflows, the others together, inline ones, and one by both scopes")
	require.InDelta(t, 2, values["node/wf_0"], 0)
	require.InDelta(t, 1, values["execution/wf_0"], 0)
	require.InDelta(t, 1, values["execution/inline"], 0)
	require.InDelta(t, 50, values["node/other"], 0)
}
