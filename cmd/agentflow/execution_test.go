package main

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shell runs commands against one platform, as one user with a folder for contexts.
type shell struct {
	t   *testing.T
	env []string
}

func (s shell) run(args ...string) result {
	s.t.Helper()
	return ended(s.t, s.env, args...)
}

func (s shell) must(args ...string) string {
	s.t.Helper()
	got := s.run(args...)
	require.Equal(s.t, exitOK, got.code, "%v\n%s", args, got.stderr)
	return got.stdout
}

// field reads one field of a JSON document on stdout.
func (s shell) field(name string, args ...string) string {
	s.t.Helper()
	var doc map[string]any
	out := s.must(args...)
	require.NoError(s.t, json.Unmarshal([]byte(out), &doc), out)
	text, _ := doc[name].(string)
	return text
}

// Everything that can be done with workflows, sources, executions and contexts, with the commands that people type.
func TestResources(t *testing.T) { //nolint:tparallel // each part builds on the one before
	t.Parallel()
	outside := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		<-r.Context().Done() // never answers
	}))
	t.Cleanup(outside.Close)
	r := start(t, filepath.Join(t.TempDir(), "data"), nil)
	config := filepath.Join(t.TempDir(), "agentflow", "config.json")
	home := shell{t, []string{"AGENTFLOW_CONFIG=" + config}}

	t.Run("contexts", func(t *testing.T) { testContexts(t, home, config, r) })
	// What follows finds the platform by the current context.
	t.Run("workflows", func(t *testing.T) { testWorkflows(t, home) })
	t.Run("sources", func(t *testing.T) { testSources(t, home) })
	t.Run("executions", func(t *testing.T) { testExecutions(t, home, outside.URL) })
	t.Run("a cut line", func(t *testing.T) { testReconnect(t, home, r, outside.URL) })
	t.Run("completion", func(t *testing.T) { testCompletion(t, home) })
	t.Run("tenants", func(t *testing.T) {
		admin := shell{t, []string{"AGENTFLOW_DATA=" + r.data}}
		require.Contains(t, admin.must("tenants", "create", "globex", "--messages-per-second", "5"), `"max_messages_per_second": 5`)
		require.Contains(t, admin.must("tenant", "update", "globex", "--name", "Globex", "--requests-per-minute", "0", "-o", "table"), "Globex")
		require.Contains(t, admin.must("tenant", "get", "globex"), `"max_requests_per_minute": 0`)
		id := admin.field("id", "keys", "create", "globex")
		require.NotEmpty(t, admin.field("key", "key", "rotate", "globex", id, "--overlap", "1m"))
		require.Contains(t, admin.must("key", "get", "globex", id), `"active"`)
		// The admin key acts for the tenant that is named; the platform's own has other workflows.
		require.Equal(t, "[]\n", admin.must("workflow", "list", "--tenant", "globex", "-o", "json"))
		require.Equal(t, exitUsage, admin.run("tenant", "update", "globex").code)
	})
}

func testContexts(t *testing.T, s shell, config string, r *running) {
	t.Helper()
	s.t = t
	cmd := agentflow(t, s.env, "context", "set", "here", "--url", r.URL+"/", "--key", "-")
	cmd.Stdin = strings.NewReader(r.APIKey + "\n")
	require.NoError(t, cmd.Start())
	require.Zero(t, wait(t, cmd))
	info, err := os.Stat(config)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	folder, err := os.Stat(filepath.Dir(config))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), folder.Mode().Perm())

	s.must("context", "set", "elsewhere", "--url", "http://127.0.0.1:1", "--key", "af_of_elsewhere")
	list := s.must("contexts", "list")
	require.Contains(t, list, "here")
	require.NotContains(t, list, r.APIKey)
	require.NotContains(t, s.must("context", "list", "-o", "json"), r.APIKey)

	// A context is used with its own key, not with one that lies about for another platform.
	wrong := shell{t, append([]string{"AGENTFLOW_API_KEY=af_wrong"}, s.env...)}
	wrong.must("workflow", "list")
	require.Equal(t, exitFailed, s.run("workflow", "list", "--context", "elsewhere").code)
	s.must("context", "use", "elsewhere")
	require.Contains(t, s.run("workflow", "list").stderr, "does not answer")
	require.Equal(t, exitOK, s.run("workflow", "list", "--context", "here").code)
	require.Equal(t, exitUsage, s.run("workflow", "list", "--context", "here", "--url", r.URL).code)

	// Another address does not get the key of the one before.
	s.must("context", "set", "elsewhere", "--url", "http://127.0.0.1:2")
	text, err := os.ReadFile(config)
	require.NoError(t, err)
	require.NotContains(t, string(text), "af_of_elsewhere")
	s.must("context", "delete", "elsewhere")
	require.Contains(t, s.run("context", "use", "elsewhere").stderr, "there is no context")
	s.must("context", "use", "here")

	require.NoError(t, os.Chmod(config, 0o644))
	require.Contains(t, s.run("workflow", "list").stderr, "chmod 600")
	require.NoError(t, os.Chmod(config, 0o600))
}

func testWorkflows(t *testing.T, s shell) {
	t.Helper()
	s.t = t
	id := s.field("id", "workflow", "create", example("hello"), "--name", "hello")
	require.True(t, strings.HasPrefix(id, "wf_"))
	list := s.must("workflows", "list")
	require.Contains(t, list, id)
	require.NotContains(t, list, "\x1b", "no colours into a pipe")
	require.Contains(t, s.must("workflow", "list", "-o", "json", "--status", "draft", "--limit", "1"), id)
	require.NotContains(t, s.must("workflow", "list", "--search", "nothing of the kind"), id)
	require.Equal(t, id+"\n", s.must("workflow", "list", "-q"))
	require.Equal(t, id+"\n", s.must("workflow", "get", id, "--quiet"))

	spec := s.must("workflow", "get", id, "--spec")
	require.Contains(t, spec, `"start_node"`)
	changed := file(t, strings.Replace(spec, "Good evening", "Good day", 1))
	require.Contains(t, s.must("workflow", "update", id, "--file", changed, "--status", "published", "--name", "greeting", "-o", "table"), "published")
	require.Contains(t, s.run("workflow", "update", id, "--name", "x", "--if-match", "1").stderr, "VERSION_MISMATCH")
	require.Contains(t, s.must("workflow", "get", id, "--version", "1", "--spec"), "Good evening")
	require.Len(t, strings.Split(strings.TrimSpace(s.must("workflow", "versions", id)), "\n"), 3)
	require.Contains(t, s.must("workflow", "stats", id, "--since", "1h"), `"total": 0`)
	require.Contains(t, s.run("workflow", "create", file(t, `{"start_node":"a","nodes":[{"id":"a","type":"llm"}]}`)).stderr, "E014")
	require.Equal(t, exitUsage, s.run("workflow", "update", id).code)
	s.must("workflow", "delete", id, "--if-match", "2")
	require.Contains(t, s.run("workflow", "get", "wf_01jd2v8m6hf5qrgq2s9n0w3x4y").stderr, "NOT_FOUND")
}

func testSources(t *testing.T, s shell) {
	t.Helper()
	s.t = t
	s.must("source", "create", "model", "--kind", "llm", "--config", `{"provider":"echo","model":"echo"}`)
	require.Contains(t, s.must("sources", "list", "--kind", "llm"), "model")
	require.Contains(t, s.must("source", "test", "model", "-o", "table"), "true")
	s.must("source", "update", "model", "--name", "Echo", "--config", "@"+file(t, `{"provider":"echo","model":"other"}`))
	require.Contains(t, s.must("source", "get", "model"), `"other"`)
	s.must("source", "create", "gone", "--kind", "api", "--config", `{"base_url":"http://127.0.0.1:1"}`)
	got := s.run("source", "test", "gone")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stdout, `"connected": false`)
	s.must("source", "delete", "gone")
	for _, args := range [][]string{{"create", "x"}, {"create", "x", "--kind", "llm", "--config", "[]"}, {"update", "model"}} {
		require.Equal(t, exitUsage, s.run(append([]string{"source"}, args...)...).code, args)
	}
}

func testExecutions(t *testing.T, s shell, outside string) {
	t.Helper()
	s.t = t
	id := s.field("id", "workflow", "create", example("chat"))
	require.Contains(t, s.must("execution", "start", id, "--set", "user_input=Why?", "--wait"), "Answer in one sentence: Why?")

	// The same key starts one execution, however often.
	first := s.field("execution_id", "execution", "start", id, "--set", "user_input=a", "--tag", "mine", "--idempotency-key", "k")
	require.Equal(t, first, s.field("execution_id", "execution", "start", id, "--set", "user_input=a", "--tag", "mine", "--idempotency-key", "k"))
	watched := s.must("execution", "watch", first)
	require.Contains(t, watched, "requested")
	require.Contains(t, watched, first+"  COMPLETED")
	require.Regexp(t, `└─ ✓ \w+  \d+(ms|s)  \d+ tokens`, watched)
	require.Contains(t, s.must("executions", "events", first), "node_completed")
	for line := range strings.Lines(s.must("execution", "watch", first, "-o", "json")) {
		require.True(t, json.Valid([]byte(line)), line)
	}
	require.Eventually(t, func() bool {
		return strings.Contains(s.must("execution", "list", "--tag", "mine", "--since", "1h"), first)
	}, patience, pause)
	require.Contains(t, s.must("execution", "get", first, "-o", "table"), "COMPLETED")
	require.Contains(t, s.must("execution", "start", id, "--input", `{"user_input":"b"}`, "--watch"), "COMPLETED")

	again := s.field("execution_id", "execution", "rerun", first)
	require.NotEqual(t, first, again)
	require.Contains(t, s.must("execution", "watch", again), "again "+first)
	require.Contains(t, s.must("execution", "rerun", first, "--from", "answer", "--watch"), again[:5])
	require.Contains(t, s.run("execution", "rerun", first, "--from", "nowhere").stderr, "nowhere")

	// One that waits for an answer: watched while it runs, and cancelled.
	slow := file(t, `{"start_node":"call","nodes":[{"id":"call","type":"api","metadata":{"source_id":"slow","endpoint":"/"}}],
		"sources":[{"id":"slow","kind":"api","config":{"base_url":"`+outside+`"}}]}`)
	running := s.field("execution_id", "execution", "start", slow)
	cmd := agentflow(t, s.env, "execution", "watch", running)
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "requested")
	require.Contains(t, s.must("execution", "cancel", running, "--reason", "enough"), "CANCELLED")
	require.Equal(t, exitFailed, wait(t, cmd), "it did not complete")

	require.Contains(t, s.run("execution", "watch", "exec_01jd2v8m6hf5qrgq2s9n0w3x4y").stderr, "NOT_FOUND")
	for _, args := range [][]string{{"list", "--since", "yesterday"}, {"list", "-o", "yaml"}, {"start", id, "--wait", "--watch"}, {"start"}} {
		got := s.run(append([]string{"execution"}, args...)...)
		require.Equal(t, exitUsage, got.code, "%v: %s", args, got.stderr)
	}
}

func testCompletion(t *testing.T, s shell) {
	t.Helper()
	s.t = t
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		require.Contains(t, s.must("completion", shell), "agentflow", shell)
	}
	require.Contains(t, s.must("__complete", "execution", "list", "--status", ""), "TIMED_OUT")
	require.Contains(t, s.must("__complete", "workflow", "get", ""), "wf_")
	require.Contains(t, s.must("__complete", "context", "use", ""), "here")
	require.Contains(t, s.must("__complete", "work"), "workflow")
}

// A key is not sent to where an answer points.
func TestRedirectIsRefused(t *testing.T) {
	t.Parallel()
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	t.Cleanup(other.Close)
	first := httptest.NewServer(http.RedirectHandler(other.URL, http.StatusTemporaryRedirect))
	t.Cleanup(first.Close)
	got := ended(t, nil, "workflow", "list", "--url", first.URL, "--key", "af_secret")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stderr, "307")
}
