package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// TestReadyLine holds the line of JSON against what it promises.
func TestReadyLine(t *testing.T) {
	t.Parallel()
	p := use(t)
	ready := p.Ready()
	require.Regexp(t, `^http://127\.0\.0\.1:\d+$`, ready.URL)
	require.Equal(t, "dev", ready.Tenant)
	require.Regexp(t, `^nats://127\.0\.0\.1:\d+$`, ready.NATSURL)
	require.Regexp(t, `^postgres(ql)?://`, ready.DatabaseURL)
	require.Regexp(t, `^redis://`, ready.RedisURL)
	require.Positive(t, ready.PID)
	require.Equal(t, http.StatusOK, p.As(ready.APIKey).Call(t, http.MethodGet, "/workflows", nil).Status)
	require.Equal(t, http.StatusOK, p.As(ready.AdminKey).Call(t, http.MethodGet, "/tenants", nil).Status)
	require.Equal(t, http.StatusOK, p.Call(t, http.MethodGet, "/workflows", nil).Status, "on loopback no key is needed")
	require.Equal(t, http.StatusUnauthorized, p.As("af_wrong").Call(t, http.MethodGet, "/workflows", nil).Status, "but a wrong one is wrong")
}

// TestSecondUp: a data folder belongs to one platform at a time.
func TestSecondUp(t *testing.T) {
	t.Parallel()
	p := use(t)
	stdout, stderr, code := agentflow(t, "up", "--json", "--data", p.Data(), "--http", "127.0.0.1:0")
	require.Equal(t, 1, code)
	require.Empty(t, stdout)
	require.Contains(t, stderr, p.Data())
}

// TestOrderlyEnd: SIGTERM while an execution is under way ends the process with 0 and takes the children along; a start
// on the same folder finishes the execution, and keys and sources are still there.
func TestOrderlyEnd(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 10)
	outside := fakeprovider.New(t, nil)
	hold := func(fakeprovider.Request) fakeprovider.Reply {
		arrived <- struct{}{}
		return fakeprovider.Reply{Fault: fakeprovider.Hang}
	}
	outside.Follow(hold)
	p := platform.Start(t, platform.Options{Env: []string{
		"AGENTFLOW_SECRET_MODEL=" + modelKey, "EXECUTOR_DRAIN_SECONDS=1", "EXECUTOR_ACK_WAIT_SECONDS=2", "LOG_LEVEL=warn",
	}})
	before := p.Ready()
	a := p.Call(t, http.MethodPost, "/api/v1/sources/", object{
		"id": "model", "kind": "llm", "config": priced(object{"provider": "openai", "model": "gpt-4o-mini", "base_url": outside.OpenAI()}),
	})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	id := p.Submit(t, object{"workflow": object{
		"start_node": "ask",
		"nodes":      []any{object{"id": "ask", "type": "llm", "metadata": object{"source_id": "model", "prompt": "hello"}}},
	}})
	<-arrived
	children, err := platform.Descendants(before.PID)
	require.NoError(t, err)
	require.NotEmpty(t, children)
	require.NoError(t, p.Stop())
	require.Empty(t, platform.Running(children))
	require.Empty(t, platform.Running([]int{before.PID}))

	outside.Follow(func(r fakeprovider.Request) fakeprovider.Reply { return fakeprovider.Text("re: " + r.Prompt) })
	require.NoError(t, p.Restart(t.Context()))
	after := p.Ready()
	require.Equal(t, []string{before.APIKey, before.AdminKey, before.Tenant}, []string{after.APIKey, after.AdminKey, after.Tenant})
	e := p.AwaitEnd(t, id)
	require.Equal(t, "COMPLETED", e.Status, "%+v", e.Error)
	require.Equal(t, "re: hello", e.FinalState["text_result"])
	calls := outside.Calls()
	require.Len(t, calls, 1, "the key of a step stays the same: %v", calls)
	require.Equal(t, http.StatusOK, p.Call(t, http.MethodGet, "/api/v1/sources/model", nil).Status)
}

// TestOtherAddressNeedsKey: who can reach an address that is not loopback's is not known.
func TestOtherAddressNeedsKey(t *testing.T) {
	t.Parallel()
	p := platform.Start(t, platform.Options{Args: []string{"--http", "0.0.0.0:0"}, Env: []string{"LOG_LEVEL=warn"}})
	require.Equal(t, http.StatusUnauthorized, p.Call(t, http.MethodGet, "/workflows", nil).Status)
	require.Equal(t, http.StatusOK, p.As(p.Ready().APIKey).Call(t, http.MethodGet, "/workflows", nil).Status)
}

// TestBacklog: who waits for a free executor loses nothing of a node's time, and holds up no other tenant.
func TestBacklog(t *testing.T) {
	t.Parallel()
	const atOnce, waiting = 4, 60
	outside := fakeprovider.New(t, func(r fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Text: "re: " + r.Prompt, Delay: 300 * time.Millisecond}
	})
	p := platform.Start(t, platform.Options{Env: []string{
		"AGENTFLOW_SECRET_MODEL=" + modelKey, fmt.Sprintf("EXECUTOR_CONCURRENCY=%d", atOnce), "LOG_LEVEL=warn",
	}})
	other := found(t, p, "patient")
	ids := make([]string, waiting)
	for i := range ids {
		// Together they take twice as long as one of them may, and each of them a tenth of it.
		ids[i] = p.Submit(t, asks(providers[0].model(outside), object{"timeout_seconds": 3}))
	}
	a := other.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": pureWorkflow, "initial_state": object{"user_input": "you"}})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	require.Less(t, outside.Count(), waiting, "the other tenant did not wait for the backlog")
	for _, id := range ids {
		e := p.AwaitEnd(t, id)
		require.Equal(t, "COMPLETED", e.Status, "%+v", e.Error)
	}
	require.Len(t, outside.Calls(), waiting)
}
