package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func example(name string) string { return filepath.Join("..", "..", "examples", name+".json") }

// Every example does what its description says, on a real platform.
func TestExamples(t *testing.T) {
	t.Parallel()
	r := start(t, filepath.Join(t.TempDir(), "data"), nil)
	runs := []struct {
		file, input, output string
	}{
		{"hello", `{"user_input":"  Ada "}`, `"Hello, Ada!"`},
		{"hello", `{"user_input":"Dr Who"}`, `"Good evening, Dr Who!"`},
		{"chat", `{"user_input":"What is a join?"}`, `"Answer in one sentence: What is a join?"`},
		{"router", `{"user_input":"Where is my REFUND?"}`, `"Billing desk: Where is my REFUND?"`},
		{"router", `{"user_input":"I cannot login"}`, `"Technical desk: I cannot login"`},
		{"router", `{"user_input":"Good morning"}`, `"Front desk: Good morning"`},
		{"fan-out-join", `{"user_input":"tea?"}`, `{"pros":"What speaks for tea?","cons":"What speaks against tea?"}`},
		{"loop", `{"user_input":"A short text"}`, `"A short text and more and more and more and more"`},
		{"api-call", `{}`, `"The platform answered 200: it is alive."`},
		{"order", `{"order":{"id":7,"amount":12.5}}`, `"Confirm order 7 over 12.5."`},
		{"order", `{"order":{"id":8,"amount":0}}`, `"Order 8 is refused: its amount must be more than 0."`},
	}
	covered := map[string]bool{}
	for _, c := range runs {
		covered[example(c.file)] = true
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			doc, err := os.ReadFile(example(c.file))
			require.NoError(t, err)
			// The file names the default address of a platform; this one has another.
			text := strings.ReplaceAll(string(doc), "http://127.0.0.1:8000", r.URL)
			file := filepath.Join(t.TempDir(), "workflow.json")
			require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
			got := ended(t, nil, "run", file, "--url", r.URL, "--input", c.input)
			require.Equal(t, exitOK, got.code, got.stderr)
			var state struct {
				Output json.RawMessage `json:"final_output"`
			}
			require.NoError(t, json.Unmarshal([]byte(got.stdout), &state))
			var withMetadata struct {
				Result json.RawMessage `json:"result"`
			}
			if json.Unmarshal(state.Output, &withMetadata) == nil && withMetadata.Result != nil {
				state.Output = withMetadata.Result
			}
			require.JSONEq(t, c.output, string(state.Output))
		})
	}
	files, err := filepath.Glob(example("*"))
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(files), 6)
	for _, file := range files {
		require.True(t, covered[file], "%s is not run by this test", file)
	}
	got := ended(t, nil, append([]string{"validate"}, files...)...)
	require.Equal(t, exitOK, got.code, got.stdout)

	t.Run("tools on a running platform", func(t *testing.T) {
		t.Parallel()
		testRunning(t, r)
	})
}

// testRunning: the commands find the platform of a data folder by themselves.
func testRunning(t *testing.T, r *running) {
	t.Helper()
	env := []string{"AGENTFLOW_DATA=" + r.data}
	must := func(args ...string) string {
		t.Helper()
		got := ended(t, env, args...)
		require.Equal(t, exitOK, got.code, got.stderr)
		return got.stdout
	}
	require.Contains(t, must("tenant", "create", "acme", "--name", "Acme"), `"id": "acme"`)
	var key struct {
		ID  string `json:"id"`
		Key string `json:"key"`
	}
	require.NoError(t, json.Unmarshal([]byte(must("key", "create", "acme", "--scope", "workflows:read", "--expires", "1h")), &key))
	require.Contains(t, must("key", "list", "acme"), key.ID)
	require.Eventually(t, func() bool { status, _ := r.get("/workflows/node-types", key.Key); return status == 200 }, patience, pause)

	require.Contains(t, must("tenant", "suspend", "acme"), `"suspended"`)
	require.Eventually(t, func() bool { status, _ := r.get("/workflows/node-types", key.Key); return status == 403 }, patience, pause)
	require.Contains(t, must("tenant", "resume", "acme"), `"active"`)
	require.Contains(t, must("key", "revoke", "acme", key.ID), `"revoked"`)
	require.Eventually(t, func() bool { status, _ := r.get("/workflows/node-types", key.Key); return status == 401 }, patience, pause)
	require.Contains(t, must("tenant", "list"), "acme")
	require.Contains(t, must("verify"), " 0 differences")
	must("replay")

	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"tenant", "create", "acme"}, "CONFLICT"},
		{[]string{"key", "revoke", "acme", "key_none"}, "NOT_FOUND"},
		{[]string{"tenant", "list", "--url", r.URL}, "an admin key is needed"},
		{[]string{"tenant", "list", "--url", r.URL, "--key", r.APIKey}, "FORBIDDEN"},
	} {
		got := ended(t, env, c.args...)
		require.Equal(t, exitFailed, got.code, c.args)
		require.Contains(t, got.stderr, c.want)
	}
}
