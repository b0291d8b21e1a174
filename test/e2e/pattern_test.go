package e2e

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
)

// together lets the first n requests answer when all n have arrived: it is the proof that they ran at the same time.
func together(n int, script fakeprovider.Script) fakeprovider.Script {
	arrived := make(chan struct{}, n)
	all := make(chan struct{})
	return func(r fakeprovider.Request) fakeprovider.Reply {
		if r.Number > n {
			return script(r)
		}
		arrived <- struct{}{}
		if r.Number == n {
			for range n {
				<-arrived
			}
			close(all)
		}
		select {
		case <-all:
			return script(r)
		case <-time.After(time.Minute):
			return fakeprovider.Reply{Status: http.StatusBadRequest, Text: "the branches did not run in parallel"}
		}
	}
}

// TestPatterns runs the example patterns through the binary, over HTTP, at both addresses.
func TestPatterns(t *testing.T) {
	t.Parallel()
	for i, prefix := range []string{"/api/v1", ""} {
		for _, who := range providers {
			if i > 0 && who.name == "anthropic" {
				continue // a second address proves nothing about a third format
			}
			for _, c := range patterns {
				t.Run(strings.TrimPrefix(prefix, "/")+"/"+who.name+"/"+c.name, func(t *testing.T) {
					t.Parallel()
					c.run(t, who, prefix)
				})
			}
		}
	}
}

func (c pattern) run(t *testing.T, who provider, prefix string) {
	t.Helper()
	world := c.world
	if n := len(c.branches); n > 0 {
		world = together(n, world)
	}
	outside := fakeprovider.New(t, world)
	outside.Demand(modelKey)
	p := use(t)
	body := object{"workflow": c.workflow(t, who, outside), "initial_state": c.state}
	a := p.Call(t, http.MethodPost, prefix+"/workflows/execute", body)
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)

	var got struct {
		Status      string      `json:"status"`
		FinalState  object      `json:"final_state"`
		Time        *int64      `json:"execution_time_ms"`
		Tokens      int         `json:"tokens_used"`
		Cost        json.Number `json:"cost"`
		Error       *string     `json:"error"`
		ExecutionID string      `json:"execution_id"`
	}
	a.Decode(t, &got)
	require.Equal(t, "success", got.Status)
	require.Contains(t, string(a.Body), `"error":null`)
	require.NotNil(t, got.Time)
	require.Equal(t, c.tokens, got.Tokens)
	require.Equal(t, c.cost, got.Cost.String(), "costs are decimals, not sums of floats")
	require.Regexp(t, "^exec_", got.ExecutionID)
	require.Equal(t, c.final(t, who, got.ExecutionID, *got.Time, got.FinalState), pretty(t, got.FinalState))
	c.checkRequests(t, who, got.ExecutionID, outside.Requests())

	// What was told at once is what is kept.
	kept := p.Execution(t, got.ExecutionID)
	require.Equal(t, "COMPLETED", kept.Status)
	require.Equal(t, got.Cost, kept.Cost)
	require.EqualValues(t, c.tokens, kept.TokensUsed)
	require.Len(t, c.path, kept.NodesRun)
	events := p.Events(t, got.ExecutionID)
	require.Equal(t, "requested.v1", events[0].Type)
	require.True(t, events[len(events)-1].Terminal())
}

// workflow reads the file of a pattern and points its sources to the test's own world.
func (c pattern) workflow(t *testing.T, who provider, outside *fakeprovider.Server) object {
	t.Helper()
	spec := readWorkflow(t, c.file)
	for _, s := range spec["sources"].([]any) {
		source := s.(object)
		switch source["kind"] {
		case "llm":
			source["config"] = who.model(outside)
		case "image":
			source["config"] = who.painter(outside)
		case "api":
			source["config"].(object)["base_url"] = outside.Tools()
		}
	}
	return spec
}

func readWorkflow(t *testing.T, name string) object {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join("testdata", "patterns", name+".json"))
	require.NoError(t, err)
	var spec object
	require.NoError(t, json.Unmarshal(raw, &spec))
	return spec
}

// final is the whole state that must come out. got is only looked at for what no test can know.
func (c pattern) final(t *testing.T, who provider, id string, took int64, got object) string {
	t.Helper()
	want := object{
		"user_input": "", "intent": "", "text_result": "", "image_result": object{}, "db_result": []any{}, "api_result": object{},
		"final_output": nil, "tokens_used": c.tokens, "cost": json.Number(c.cost), "errors": []any{}, "outputs": object{},
		"metadata": object{"input_processed": true, "input_node_id": c.path[0], "execution_id": id, "execution_time_ms": took},
	}
	for key, value := range c.want {
		want[key] = value
	}
	path, ok := got["execution_path"].([]any)
	require.True(t, ok)
	want["execution_path"] = c.order(t, path)
	want["current_node"] = want["execution_path"]
	if bundle, ok := want["final_output"].(object); ok {
		bundle = clone(t, bundle)
		bundle["execution_path"] = want["execution_path"].([]any)[:len(c.path)-1]
		if slices.Contains(c.path, "postcard") {
			bundle["result"].(object)["image_result"] = c.picture(who)
		}
		want["final_output"] = bundle
	}
	if slices.Contains(c.path, "postcard") {
		want["image_result"] = c.picture(who)
	}
	if result, ok := got["api_result"].(object); ok && len(result) > 0 {
		headers, ok := result["headers"].(object)
		require.True(t, ok)
		require.Contains(t, pretty(t, headers), "application/json")
		result["headers"] = object{}
	}
	return pretty(t, want)
}

// order is the path that was taken, if it is one that may have been taken: branches at the same time end in any order.
func (c pattern) order(t *testing.T, got []any) []any {
	t.Helper()
	taken := make([]string, len(got))
	for i, id := range got {
		taken[i], _ = id.(string)
	}
	want := slices.Clone(c.path)
	if n := len(c.branches); n > 0 {
		from := slices.Index(want, c.branches[0])
		require.Len(t, taken, len(want))
		require.ElementsMatch(t, c.branches, taken[from:from+n])
		copy(want[from:from+n], taken[from:])
	}
	out := make([]any, len(want))
	for i, id := range want {
		out[i] = id
	}
	return out
}

func (c pattern) picture(who provider) object {
	picture := object{"prompt": "Lisbon in sunny weather", "size": "1024x1024"}
	for key, value := range who.picture {
		picture[key] = value
	}
	return picture
}

// checkRequests holds what was asked outside against the pattern, and each request's idempotency key against its node.
func (c pattern) checkRequests(t *testing.T, who provider, id string, asked []fakeprovider.Request) {
	t.Helper()
	said := make([]string, len(asked))
	seen := map[string]bool{}
	for i, r := range asked {
		switch {
		case r.Wire == fakeprovider.Plain:
			said[i] = r.Method + " " + r.Path
		case r.Image:
			said[i] = "draw " + r.Prompt
		case r.System != "":
			said[i] = r.System + " / " + r.Prompt
		default:
			said[i] = r.Prompt
		}
		if i < len(c.prompts) && c.prompts[i] == "*" {
			said[i] = "*"
		}
		require.Regexp(t, `^`+id+`/[a-z]\w*/\d+$`, r.IdempotencyKey)
		require.False(t, seen[r.IdempotencyKey], "%s was sent twice", r.IdempotencyKey)
		seen[r.IdempotencyKey] = true
		if r.Wire != fakeprovider.Plain && !r.Image {
			require.Equal(t, who.name, string(r.Wire))
		}
	}
	if len(c.branches) > 0 {
		require.ElementsMatch(t, c.prompts, said)
	} else {
		require.Equal(t, c.prompts, said)
	}
}

func pretty(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.MarshalIndent(normal(t, v), "", "  ")
	require.NoError(t, err)
	return string(raw)
}

// normal is a value as JSON has it, so that 2 and 2.0 are one number.
func normal(t *testing.T, v any) any {
	t.Helper()
	raw, err := json.Marshal(v)
	require.NoError(t, err)
	var out any
	require.NoError(t, json.Unmarshal(raw, &out))
	return out
}

func clone(t *testing.T, v object) object {
	t.Helper()
	return normal(t, v).(object)
}
