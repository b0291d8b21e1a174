package e2e

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
)

// asks is a workflow of one model, with more metadata for its node. Without a config the source is one that is kept.
func asks(config object, metadata object) object {
	node := object{"source_id": "model", "prompt_template": "{user_input}"}
	for key, value := range metadata {
		node[key] = value
	}
	spec := object{"start_node": "ask", "nodes": []any{object{"id": "ask", "type": "llm", "metadata": node}}}
	if config != nil {
		spec["sources"] = []any{object{"id": "model", "kind": "llm", "config": config}}
	}
	return object{"workflow": spec, "initial_state": object{"user_input": "hello"}}
}

// firstThen answers the first requests with replies, and what follows properly.
func firstThen(replies ...fakeprovider.Reply) fakeprovider.Script {
	return func(r fakeprovider.Request) fakeprovider.Reply {
		if r.Number <= len(replies) {
			return replies[r.Number-1]
		}
		return fakeprovider.Text("at last")
	}
}

// TestProvidersRecover: what passes is tried again, under the same idempotency key, and counted once.
func TestProvidersRecover(t *testing.T) {
	t.Parallel()
	for name, replies := range map[string][]fakeprovider.Reply{
		"5xx":        {fakeprovider.Broken(), {Status: 503, Text: "overloaded"}},
		"429":        {fakeprovider.TooMany("1")},
		"disconnect": {{Fault: fakeprovider.Disconnect}},
		"cut off":    {{Fault: fakeprovider.CutOff, Text: "half an answer"}},
		"garbage":    {{Fault: fakeprovider.Garbage}},
	} {
		for _, who := range providers {
			t.Run(name+"/"+who.name, func(t *testing.T) {
				t.Parallel()
				p, outside := use(t), fakeprovider.New(t, firstThen(replies...))
				began := time.Now()
				a := p.Call(t, http.MethodPost, "/workflows/execute", asks(who.model(outside), object{"retry": object{"initial_interval": 0.05}}))
				require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
				body := a.JSON(t)
				require.Equal(t, "at last", body["final_state"].(object)["text_result"])
				require.EqualValues(t, 18, body["tokens_used"])
				require.Len(t, outside.Requests(), len(replies)+1)
				require.Equal(t, map[string]int{body["execution_id"].(string) + "/ask/0": len(replies) + 1}, outside.Calls())
				if name == "429" {
					require.GreaterOrEqual(t, time.Since(began), time.Second, "Retry-After is honoured")
				}
			})
		}
	}
}

// TestProvidersRefuse: what will not pass is not tried again, and the answer says what to do.
func TestProvidersRefuse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		reply fakeprovider.Reply
		says  string
		calls int
	}{
		{"key", fakeprovider.Unauthorized(), "AGENTFLOW_SECRET_MODEL", 1},
		{"request", fakeprovider.Reply{Status: 400, Text: "bad parameter"}, "bad parameter", 1},
		{"model", fakeprovider.Reply{Status: 404, Text: "no such model"}, "does not know the model", 1},
		{"filter", fakeprovider.Reply{Text: "I will n", Finish: fakeprovider.Filtered}, "", 1},
		{"nothing", fakeprovider.Reply{Text: " "}, "answered nothing", 1},
		{"5xx for ever", fakeprovider.Broken(), "failed or is overloaded", 3},
	} {
		for _, who := range providers[:2] {
			t.Run(c.name+"/"+who.name, func(t *testing.T) {
				t.Parallel()
				p, outside := use(t), fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply { return c.reply })
				a := p.Call(t, http.MethodPost, "/api/v1/workflows/execute", asks(who.model(outside), object{"retry": object{"initial_interval": 0.01}}))
				require.Equal(t, http.StatusInternalServerError, a.Status, "%s", a.Body)
				detail := a.JSON(t)["detail"].(object)
				require.Equal(t, "Workflow execution failed", detail["message"])
				require.Contains(t, detail["error"], "ask")
				require.Contains(t, detail["error"], c.says)
				require.NotContains(t, string(a.Body), modelKey)
				require.Len(t, outside.Requests(), c.calls)
				e := p.Execution(t, detail["execution_id"].(string))
				require.Equal(t, "FAILED", e.Status)
			})
		}
	}
}

// TestProviderHangs: a node's time is up although its provider says nothing.
func TestProviderHangs(t *testing.T) {
	t.Parallel()
	p, outside := use(t), fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Fault: fakeprovider.Hang}
	})
	a := p.Call(t, http.MethodPost, "/api/v1/workflows/execute", asks(providers[0].model(outside), object{"timeout_seconds": 1}))
	require.Equal(t, http.StatusGatewayTimeout, a.Status, "%s", a.Body)
	detail := a.JSON(t)["detail"].(object)
	require.Equal(t, "node", detail["timeout"].(object)["scope"])
	require.Equal(t, "ask", detail["timeout"].(object)["node"])
	require.Equal(t, "hello", detail["partial_state"].(object)["user_input"])

	body := asks(providers[0].model(outside), nil)
	body["timeout_seconds"] = 1
	a = p.Call(t, http.MethodPost, "/workflows/execute", body)
	require.Equal(t, http.StatusGatewayTimeout, a.Status, "%s", a.Body)
	require.Equal(t, "execution", a.JSON(t)["timeout"].(object)["scope"])
}

// TestCancel: an execution that waits for its provider ends when it is asked to.
func TestCancel(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 1)
	p, outside := use(t), fakeprovider.New(t, func(fakeprovider.Request) fakeprovider.Reply {
		arrived <- struct{}{}
		return fakeprovider.Reply{Fault: fakeprovider.Hang}
	})
	id := p.Submit(t, asks(providers[0].model(outside), nil))
	<-arrived
	a := p.Call(t, http.MethodPost, "/executions/"+id+"/cancel", object{"reason": "changed my mind"})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	require.Equal(t, "CANCELLED", p.AwaitEnd(t, id).Status)
	a = p.Call(t, http.MethodPost, "/executions/"+id+"/cancel", nil)
	require.Equal(t, http.StatusOK, a.Status, "twice is harmless: %s", a.Body)
	require.Len(t, outside.Requests(), 1)
}

// TestDefaultAddresses: a node without a source finds its provider where the platform's environment says.
func TestDefaultAddresses(t *testing.T) {
	t.Parallel()
	p := use(t)
	for _, c := range []struct{ provider, model, wire, key string }{
		{"openai", "gpt-4o-mini", "openai", "openai-" + modelKey},
		{"groq", "llama-3.1-8b-instant", "openai", "groq-" + modelKey},
		{"gemini", "gemini-2.5-flash", "gemini", "gemini-" + modelKey},
		{"anthropic", "claude-3-5-haiku-latest", "anthropic", "anthropic-" + modelKey},
	} {
		prompt := "who are you, " + c.provider + "?"
		a := p.Call(t, http.MethodPost, "/workflows/execute", object{"workflow": object{
			"start_node": "ask",
			"nodes":      []any{object{"id": "ask", "type": "llm", "metadata": object{"provider": c.provider, "model": c.model, "prompt": prompt}}},
		}})
		require.Equal(t, http.StatusOK, a.Status, "%s: %s", c.provider, a.Body)
		require.Equal(t, "re: "+prompt, a.JSON(t)["final_state"].(object)["text_result"])
		found := false
		for _, r := range house.Requests() {
			if r.Prompt == prompt {
				found = true
				require.Equal(t, []string{c.wire, c.key, c.model}, []string{string(r.Wire), r.Key, r.Model})
			}
		}
		require.True(t, found)
	}
}

// TestIdempotency: the same order twice is one execution, also when both are given at the same time.
func TestIdempotency(t *testing.T) {
	t.Parallel()
	p, outside := use(t), fakeprovider.New(t, nil)
	body := asks(providers[0].model(outside), nil)
	key := "order 66.*.> " + strconv.FormatInt(time.Now().UnixNano(), 36) // a platform may see this test twice
	answers := make(chan string, 8)
	for range cap(answers) {
		go func() {
			a, err := p.Try(t, http.MethodPost, "/workflows/execute", body, "Idempotency-Key", key)
			if err != nil {
				answers <- err.Error()
				return
			}
			answers <- string(a.Body)
		}()
	}
	first := <-answers
	for range cap(answers) - 1 {
		require.Equal(t, first, <-answers)
	}
	require.Contains(t, first, "re: hello")
	require.Len(t, outside.Requests(), 1)
	body["initial_state"] = object{"user_input": "something else"}
	a := p.Call(t, http.MethodPost, "/workflows/execute", body, "Idempotency-Key", key)
	require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s", a.Body)
}
