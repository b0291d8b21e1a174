// Package limits tests the limits of the platform from outside: three gateways and three limiters, each a process of its
// own, on one Redis.
package limits

import (
	"fmt"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/fleet"
	"github.com/agentflow/agentflow/test/platform"
)

type object = map[string]any

// world is the fleet that the tests of this package share, each with tenants of its own.
type world struct {
	*fleet.Fleet
	gateways []*platform.Platform
	models   *fakeprovider.Server
}

// TestLimits starts the fleet once; its parts take turns, since some of them load the machine.
func TestLimits(t *testing.T) {
	w := &world{Fleet: fleet.Start(t, fleet.Options{
		Gateways: 3, Limiters: 3, Catalogs: 1, Executors: 1,
		Env: []string{"AGENTFLOW_SECRET_MODEL=a-key", "RATE_LIMIT_FAIL=closed", "RATE_LIMIT_TIMEOUT_MS=5000", "REDIS_TIMEOUT_MS=2000"},
	})}
	w.models = fakeprovider.New(t, func(r fakeprovider.Request) fakeprovider.Reply {
		return fakeprovider.Reply{Text: "re: " + r.Prompt, Input: 10, Output: 285}
	})
	for i := range w.Gateways {
		w.gateways = append(w.gateways, w.Gateway(i))
	}
	t.Run("Criterion13TokenBucketInRedis", w.criterion13)
	t.Run("Criterion14AllThreeLimits", w.criterion14)
	t.Run("Criterion15TooManyRequests", w.criterion15)
	t.Run("Criterion16InstancesShareLimits", w.criterion16)
	t.Run("HeadersOnEveryAnswer", w.headers)
	t.Run("Proof", w.proof)
}

// tenant makes a tenant with limits, and returns a client for each gateway, all with the same key.
func (w *world) tenant(t *testing.T, id string, limits object) []platform.Client {
	t.Helper()
	admin := w.gateways[0].As(w.AdminKey)
	a := admin.Call(t, http.MethodPost, "/tenants", object{"id": id, "name": id, "limits": limits})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	a = admin.Call(t, http.MethodPost, "/keys", object{"tenant_id": id, "name": "the key"})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	secret, _ := a.JSON(t)["key"].(string)
	keyID, _ := a.JSON(t)["id"].(string)
	clients := make([]platform.Client, len(w.gateways))
	for i, g := range w.gateways {
		clients[i] = g.As(secret)
		// Each gateway has heard of the key and of the tenant; being asked for another tenant it says no before it counts.
		platform.Await(t, "the key at "+g.Ready().URL, func() bool {
			known := g.As(w.AdminKey).Call(t, http.MethodGet, "/keys/"+keyID+"?tenant_id="+id, nil).Status == http.StatusOK
			return known && clients[i].Call(t, http.MethodGet, "/executions", nil, "X-Tenant-ID", "another").Status == http.StatusForbidden
		})
	}
	return clients
}

// queued is a workflow whose one node is reached through a queue, and asks a model.
func (w *world) queued(name string, bandwidth object) object {
	return object{
		"name": name, "start_node": "in",
		"nodes": []object{
			{"id": "in", "type": "input"},
			{"id": "ask", "type": "llm", "metadata": object{"source_id": "model", "prompt_template": "{user_input}", "max_tokens": 290, "timeout_seconds": 2}},
		},
		"edges":  []object{{"from": "in", "to": "ask"}},
		"queues": []object{{"id": "line", "from": "in", "to": "ask", "bandwidth": bandwidth}},
		"sources": []object{{"id": "model", "kind": "llm", "config": object{
			"provider": "openai", "model": "m", "base_url": w.models.OpenAI(), "api_key_env": "AGENTFLOW_SECRET_MODEL",
		}}},
	}
}

const cheap = "/workflows/node-types"

// requireRefused is what being limited looks like, at the root and in the shape of Phase 1.
func requireRefused(t *testing.T, a platform.Answer, frozen bool) {
	t.Helper()
	require.Equal(t, http.StatusTooManyRequests, a.Status, "%s", a.Body)
	require.Regexp(t, `^[1-9]\d*$`, a.Header.Get("Retry-After"))
	if frozen {
		require.Contains(t, a.Header.Get("Content-Type"), "application/json")
		require.Contains(t, a.JSON(t), "detail")
		require.NotContains(t, a.JSON(t), "title")
		return
	}
	require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
	problem := a.JSON(t)
	require.Equal(t, "RATE_LIMITED", problem["code"])
	require.InDelta(t, http.StatusTooManyRequests, problem["status"], 0)
	require.NotEmpty(t, problem["detail"])
	require.NotEmpty(t, problem["title"])
}

// name tells the tenants of one part from those of another.
func name(of string, i any) string { return fmt.Sprintf("%s-%v", of, i) }
