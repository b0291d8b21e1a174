package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const pause = 10 * time.Millisecond

// Without --url a platform is started for the run, and nothing of it stays.
func TestRunAlone(t *testing.T) {
	t.Parallel()
	temporary := t.TempDir()
	env := []string{"TMPDIR=" + temporary, "DATABASE_URL=postgres://nobody@127.0.0.1:1/none"} // not its business
	got := ended(t, env, "run", example("hello"), "--set", "user_input=Ada")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, `"final_output": "Hello, Ada!"`)
	left, err := os.ReadDir(temporary)
	require.NoError(t, err)
	require.Empty(t, left)
}

// With --data the folder stays, and a failed run is told on stderr.
func TestRunFails(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	got := ended(t, nil, "run", example("hello"), "--data", data)
	require.Equal(t, exitFailed, got.code)
	require.Empty(t, got.stdout)
	require.Contains(t, got.stderr, "required")
	require.Contains(t, got.stderr, "code NODE_FAILED")
	require.DirExists(t, filepath.Join(data, "nats"))
}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	broken := file(t, `{"nodes": [`)
	for name, c := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no file":        {nil, exitUsage, "FILE is missing"},
		"two files":      {[]string{"a", "b"}, exitUsage, `unexpected argument "b"`},
		"no such file":   {[]string{"none.json"}, exitFailed, "none.json"},
		"no JSON":        {[]string{broken}, exitFailed, "is not JSON"},
		"a bad input":    {[]string{example("hello"), "--input", "[]"}, exitUsage, "--input must be a JSON object"},
		"null":           {[]string{example("hello"), "--input", "null"}, exitUsage, "--input must be a JSON object"},
		"a bad set":      {[]string{example("hello"), "--set", "x"}, exitUsage, "--set wants KEY=VALUE"},
		"a bad timeout":  {[]string{example("hello"), "--timeout", "-1s"}, exitUsage, "--timeout"},
		"a bad address":  {[]string{example("hello"), "--url", "localhost:8000"}, exitUsage, "--url wants an address"},
		"nobody there":   {[]string{example("hello"), "--url", "http://127.0.0.1:1"}, exitFailed, "does not answer"},
		"a used command": {[]string{"--nope"}, exitUsage, "unknown flag"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ended(t, nil, append([]string{"run"}, c.args...)...)
			require.Equal(t, c.code, got.code, got.stderr)
			require.Empty(t, got.stdout)
			require.Contains(t, got.stderr, c.want)
		})
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	wrong := file(t, `{"start_node":"a","nodes":[{"id":"a","type":"llm"},{"id":"b","type":"router"}],"edges":[]}`)
	shape := file(t, `{"nodes":[{"id":"a b","type":"dream"}],"edges":[{"from":"x","to":"y"}]}`)
	broken := file(t, `{"nodes": [`)
	for name, c := range map[string]struct {
		args []string
		code int
		want []string
	}{
		"valid":     {[]string{example("hello")}, exitOK, []string{"valid, 3 nodes"}},
		"a warning": {[]string{example("loop")}, exitOK, []string{"warning: E012", "valid, 3 nodes"}},
		"problems": {[]string{wrong}, exitFailed, []string{
			wrong + ": E014 node a, metadata.prompt: ", wrong + ": E013 node b", wrong + ": E014 node b, metadata",
		}},
		"a bad shape":   {[]string{shape}, exitFailed, []string{"E002", "E004", "E006"}},
		"no JSON":       {[]string{broken}, exitFailed, []string{broken + ": E001 "}},
		"one of two":    {[]string{example("hello"), wrong}, exitFailed, []string{"valid, 3 nodes", "E014"}},
		"no such file":  {[]string{"none.json"}, exitFailed, nil},
		"no file named": {nil, exitUsage, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := ended(t, nil, append([]string{"validate"}, c.args...)...)
			require.Equal(t, c.code, got.code, got.stderr)
			for _, want := range c.want {
				require.Contains(t, got.stdout, want)
			}
		})
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	got := ended(t, nil)
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.stdout, "agentflow up")
	got = ended(t, nil, "version")
	require.Equal(t, exitOK, got.code)
	require.Contains(t, got.stdout, "agentflow ")
	got = ended(t, nil, "upp")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "did you mean up?")
	got = ended(t, nil, "key", "make")
	require.Equal(t, exitUsage, got.code)
	got = ended(t, nil, "migrate", "status", "--data", t.TempDir())
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stderr, "there is no database in")
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "workflow.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	return path
}
