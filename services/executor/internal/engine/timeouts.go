package engine

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// mostWorkflows bounds the label of timeouts: users make workflows, and a metric must not grow with
// them. The statistics of each workflow have its exact count.
const mostWorkflows = 200

// timeouts counts executions that timed out, by workflow and scope.
type timeouts struct {
	*prometheus.CounterVec

	mu    sync.Mutex
	known map[string]struct{}
}

func newTimeouts() *timeouts {
	return &timeouts{
		CounterVec: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentflow_timeouts_total",
			Help: "Executions that timed out, by workflow (the first 200 of this process, then other; inline: not a stored one) and scope (execution or node).",
		}, []string{"workflow", "scope"}),
		known: map[string]struct{}{},
	}
}

func (t *timeouts) count(workflow string, end protocol.Event) {
	e, ok := end.(protocol.TimedOut)
	if !ok {
		return
	}
	t.WithLabelValues(t.label(workflow), e.Scope).Inc()
}

func (t *timeouts) label(workflow string) string {
	if workflow == "" {
		return "inline"
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.known[workflow]; !ok {
		if len(t.known) >= mostWorkflows {
			return "other"
		}
		t.known[workflow] = struct{}{}
	}
	return workflow
}
