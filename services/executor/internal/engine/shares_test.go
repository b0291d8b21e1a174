package engine_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
)

// TestABacklogDoesNotDelayAnotherTenant puts one execution of a tenant behind 300 of another, on
// an executor that can run 8 at a time.
func TestABacklogDoesNotDelayAnotherTenant(t *testing.T) {
	p := newPlatform(t)
	c := newCalls(t, func(_ int, w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-r.Context().Done():
		}
		_, _ = fmt.Fprint(w, `{}`)
	})
	const backlog = 300
	spec := parallel(c.URL, "")
	keys := make([]protocol.ExecutionKey, backlog)
	for i := range keys {
		keys[i] = p.request(spec, `{}`, nil)
	}
	small := p.requestFor("small", spec, `{}`)
	p.executor(engine.Config{Concurrency: 8})
	require.Contains(t, names(p.history(small)), "completed")
	behind := 0
	for _, key := range keys {
		last, err := p.bus.Last(t.Context(), key)
		require.NoError(t, err)
		if !protocol.Terminal(last.Events[len(last.Events)-1].Event) {
			behind++
		}
	}
	require.Greater(t, behind, backlog/2, "the single execution waited for most of the backlog")
	for _, key := range keys {
		require.True(t, strings.HasSuffix(names(p.history(key)), "completed"))
	}
}
