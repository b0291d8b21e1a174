package fleet_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// suite are the tests of the API: those of test/e2e that need no platform of their own.
const suite = "^(TestPatterns|TestFrozen|TestDocs|TestHostile|TestLarge|TestHostileAddresses|TestOddSourceIDs|" +
	"TestProvidersRecover|TestProvidersRefuse|TestProviderHangs|TestCancel|TestIdempotency)$"

// TestSuite runs the tests of the API, as they are for the single process, through both gateways of a fleet: in turns, or
// in the long form all of them through each.
func TestSuite(t *testing.T) {
	f := shared(t)
	first, second := f.Gateway(0).Ready(), f.Gateway(1).Ready()
	if !long {
		runSuite(t, first, second)
	} else {
		t.Run("first gateway", func(t *testing.T) { runSuite(t, first) })
		t.Run("second gateway", func(t *testing.T) { runSuite(t, second) })
	}
	f.RequireNoViolations(t)
}

func runSuite(t *testing.T, gateways ...platform.Ready) {
	t.Helper()
	var lines []string
	for _, ready := range gateways {
		line, err := json.Marshal(ready)
		require.NoError(t, err)
		lines = append(lines, string(line))
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-timeout=5m", "-run", suite, "github.com/agentflow/agentflow/test/e2e")
	cmd.Env = append(os.Environ(), "AGENTFLOW_E2E_ATTACH="+strings.Join(lines, "\n"))
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.True(t, bytes.HasPrefix(out, []byte("ok")), "%s", out) // not "no tests to run"
	require.NotContains(t, string(out), "no tests to run")
}
