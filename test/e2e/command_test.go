package e2e

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// agentflow runs a command of the binary to its end.
func agentflow(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	binary, err := platform.Binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), binary, args...)
	var out, log strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &log
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return out.String(), log.String(), cmd.ProcessState.ExitCode()
}

// TestValidateCommand: the pattern files are valid, and of a bad file every problem has a line.
func TestValidateCommand(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/patterns/*.json")
	require.NoError(t, err)
	require.Len(t, files, 8)
	for _, file := range files {
		_, stderr, code := agentflow(t, "validate", file)
		require.Zero(t, code, "%s: %s", file, stderr)
	}
	file := filepath.Join(t.TempDir(), "bad.json")
	require.NoError(t, os.WriteFile(file, []byte(invalid), 0o600))
	stdout, stderr, code := agentflow(t, "validate", file)
	require.Equal(t, 1, code)
	lines := strings.Split(strings.TrimSpace(stdout+stderr), "\n")
	for _, problem := range []string{"E014", "E013"} {
		require.Contains(t, stdout+stderr, problem)
	}
	require.Contains(t, lines[0], "lost")
}

// TestRunCommand runs a pattern file on a platform that is up, and one that fails.
func TestRunCommand(t *testing.T) {
	t.Parallel()
	p := use(t)
	ready := p.Ready()
	stdout, stderr, code := agentflow(t, "run", "testdata/patterns/simple.json", "--url", ready.URL, "--key", ready.APIKey, "--set", "user_input=Who am I?")
	require.Zero(t, code, stderr)
	var state object
	require.NoError(t, json.Unmarshal([]byte(stdout), &state), "%s", stdout)
	require.Equal(t, "re: Question: Who am I?", state["text_result"])

	stdout, stderr, code = agentflow(t, "run", "testdata/patterns/simple.json", "--url", ready.URL, "--key", ready.APIKey, "--input", `{"user_input":""}`)
	require.Equal(t, 1, code)
	require.Contains(t, stderr, "required")
	require.NotContains(t, stdout, "text_result")
}
