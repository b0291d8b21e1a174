//go:build linux

package bench

import (
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestParseStat(t *testing.T) {
	t.Parallel()
	p, err := parseStat([]byte("42 (a) b (c) S 7 42 42 0 -1 4194560 1 2 3 4 250 50 30 20 20 0 1 0 100 1000 10"))
	require.NoError(t, err)
	require.Equal(t, process{pid: 42, parent: 7, name: "a) b (c", cpu: 3 * time.Second, reaped: 500 * time.Millisecond}, p)
	for _, text := range []string{"", "42 (a", "42 (a) S 7", "x (a) S y 42 42 0 -1 4194560 1 2 3 4 250 50 30 20"} {
		_, err := parseStat([]byte(text))
		require.Error(t, err, text)
	}
}

func TestFamily(t *testing.T) {
	t.Parallel()
	// A server with a worker of its own.
	cmd := exec.Command("sh", "-c", "sleep 60 & echo up; wait")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	var worker int
	t.Cleanup(func() {
		if process, err := os.FindProcess(worker); worker != 0 && err == nil {
			_ = process.Kill()
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	_, err = out.Read(make([]byte, 3))
	require.NoError(t, err)

	f, err := familyOf(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, os.Getpid(), f[processPlatform][0].pid)
	var shell []int
	for _, p := range f["sh"] {
		shell = append(shell, p.pid)
		if p.parent == cmd.Process.Pid {
			worker = p.pid
		}
	}
	require.Contains(t, shell, cmd.Process.Pid)
	require.NotZero(t, worker, "workers count for their server")
	require.Positive(t, f.memory()[processPlatform])
	require.Positive(t, resident(os.Getpid()))
	require.Positive(t, ownCPU())

	_, err = familyOf(1 << 30)
	require.Error(t, err)
}

func TestCost(t *testing.T) {
	t.Parallel()
	f := family{
		processPlatform: {{pid: 1, cpu: 5 * time.Second, reaped: time.Minute}},
		"postgres":      {{pid: 2, cpu: time.Second, reaped: 2 * time.Second}, {pid: 3, cpu: 4 * time.Second}},
	}
	require.Equal(t, cost{processPlatform: 5 * time.Second, "postgres": 7 * time.Second}, f.cost())
	require.Equal(t, cost{processPlatform: time.Second, "postgres": 7 * time.Second}, f.cost().minus(cost{processPlatform: 4 * time.Second}))
}
