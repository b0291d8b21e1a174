package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// asPlatform makes the test binary a platform that runs until SIGTERM, in place of agentflow up.
const asPlatform = "AGENTFLOW_TEST_IS_PLATFORM"

func TestMain(m *testing.M) {
	if os.Getenv(asPlatform) == "" {
		os.Exit(m.Run())
	}
	if err := serve(os.Args); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	after := func(flag string) string { return args[slices.Index(args, flag)+1] }
	o := platform.Options{Data: after("--data"), HTTP: after("--http"), SyncAlways: after("--durability") == "always", Environ: os.Environ()}
	return platform.Run(ctx, o, func(ctx context.Context, info platform.Info) error {
		if err := json.NewEncoder(os.Stdout).Encode(info); err != nil {
			return err
		}
		<-ctx.Done()
		return nil
	})
}

func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Program: os.Args[:1], Environ: append(os.Environ(), asPlatform+"=1"), Dir: t.TempDir(), Durability: "interval",
		Requests: 24, Duration: time.Second,
	}
}

func plansOf(t *testing.T, clients int, names ...string) []Plan {
	t.Helper()
	var plans []Plan
	for _, name := range names {
		w, ok := Find(name)
		require.True(t, ok, name)
		plans = append(plans, Plan{w, clients})
	}
	return plans
}

func leftIn(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}

func TestRun(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Plans = plansOf(t, 3, "three-step", "chat", "api", "fan-out", "limited", "crud", "pages", "store", "read", "list")
	o.Fill, o.Kept, o.Idle = 100, 500, time.Millisecond
	var seen bytes.Buffer
	o.Progress = &seen
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Len(t, report.Runs, len(o.Plans))
	for _, run := range report.Runs {
		require.Empty(t, run.Errors, run.Workload)
		require.EqualValues(t, 24, run.Latency.Requests, run.Workload)
		require.EqualValues(t, 24, run.Cost.Requests, run.Workload)
		require.NotNil(t, run.Cost.Idle, run.Workload)
		require.Positive(t, run.Cost.Idle.JetStreamBytes, run.Workload)
		require.Positive(t, run.Cost.Idle.PostgresBytes, run.Workload)
		if run.Execution {
			require.Positive(t, run.Cost.JetStreamBytes, run.Workload)
		}
	}
	require.Contains(t, report.Runs[5].Kinds, "delete")
	require.Contains(t, report.Runs[6].Kinds, "next page")
	require.Contains(t, seen.String(), "laying down 500 workflows")
	require.Contains(t, seen.String(), "waiting for the tables")
	require.Empty(t, leftIn(t, o.Dir))
	var table bytes.Buffer
	require.NoError(t, report.Table(&table))
	require.Contains(t, table.String(), "100 executions were there before")
}

func TestRunStarts(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Plans = plansOf(t, 1, "start")
	report, err := Run(t.Context(), o)
	require.NoError(t, err)
	require.Empty(t, report.Runs)
	require.Positive(t, report.Startup.FreshSeconds)
	require.Positive(t, report.Startup.WarmSeconds)
	require.Empty(t, leftIn(t, o.Dir))
}

// The platform is killed under load: bench says so, and cleans up.
func TestRunWhenThePlatformDies(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Requests, o.Duration = 0, time.Hour
	o.Plans = plansOf(t, 2, "three-step")
	killed := false
	o.Progress = writer(func(said []byte) {
		if killed || !bytes.Contains(said, []byte("answered")) {
			return // the load is not under way
		}
		killed = true
		notes, err := filepath.Glob(filepath.Join(o.Dir, "*", "data"))
		if err == nil && len(notes) == 1 {
			if note, running, err := platform.Running(notes[0]); err == nil && running {
				_ = syscall.Kill(note.PID, syscall.SIGKILL)
			}
		}
	})
	_, err := Run(t.Context(), o)
	require.ErrorContains(t, err, "the platform ended: signal: killed")
	require.Empty(t, leftIn(t, o.Dir))
}

// writer is called with what is written.
type writer func([]byte)

func (w writer) Write(p []byte) (int, error) {
	w(p)
	return len(p), nil
}

func TestRunIsInterrupted(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Requests, o.Duration = 0, time.Hour
	o.Plans = plansOf(t, 2, "three-step")
	ctx, cancel := context.WithCancel(t.Context())
	o.Progress = writer(func(said []byte) {
		if bytes.Contains(said, []byte("answered")) {
			cancel()
		}
	})
	_, err := Run(ctx, o)
	require.ErrorIs(t, err, context.Canceled)
	require.Empty(t, leftIn(t, o.Dir))
}

func TestRunProfiles(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Plans = plansOf(t, 2, "three-step")
	o.Profile = filepath.Join(t.TempDir(), "cpu")
	_, err := Run(t.Context(), o)
	require.NoError(t, err)
	profile, err := os.ReadFile(o.Profile)
	require.NoError(t, err)
	require.Equal(t, []byte{0x1f, 0x8b}, profile[:2], "profiles are gzipped")
}
