//go:build soak

package load

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fleet"
)

// TestIdle holds what a service takes while it has nothing to do: one process of each, a minute after the start. It prints
// the memory that is the process's own (anonymous) and that of the binary, which processes of one image share (file).
func TestIdle(t *testing.T) {
	const most = 40 // MB
	// Installed, as in an image: how a file came to be decides how much of it the kernel maps at a touch, and a linker's is
	// mapped in larger pieces.
	built, installed := os.Getenv("AGENTFLOW_TEST_BINARIES"), t.TempDir()
	require.NotEmpty(t, built, "make soak measures what it has built")
	require.NoError(t, os.CopyFS(installed, os.DirFS(built)))
	t.Setenv("AGENTFLOW_TEST_BINARIES", installed)
	f := fleet.Start(t, fleet.Options{Gateways: 1, Catalogs: 1, Executors: 1, Limiters: 1})
	time.Sleep(time.Minute) //nolint:forbidigo // being idle takes time
	var over []string
	for _, p := range f.Services() {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p.PID()))
		require.NoError(t, err)
		resident, own := kilobytes(t, rollup, "Rss"), kilobytes(t, rollup, "Anonymous")
		t.Logf("%-12s %5.1f MB resident: %5.1f its own, %5.1f of the binary", p.Name, resident/1024, own/1024, (resident-own)/1024)
		if resident/1024 > most {
			over = append(over, p.Name)
		}
	}
	require.Empty(t, over, "more than %d MB", most)
}

// kilobytes is one field of a file of the kernel.
func kilobytes(t *testing.T, file []byte, field string) float64 {
	t.Helper()
	for line := range strings.Lines(string(file)) {
		if words := strings.Fields(line); len(words) == 3 && words[0] == field+":" {
			n, err := strconv.ParseFloat(words[1], 64)
			require.NoError(t, err)
			return n
		}
	}
	t.Fatalf("there is no %s", field)
	return 0
}
