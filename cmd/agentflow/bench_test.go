package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/bench"
)

// planned is what a command line of bench asks for, without running it.
func planned(t *testing.T, args ...string) (*benchmark, error) {
	t.Helper()
	b, c := benchCommand(&process{environ: []string{"AGENTFLOW_URL=http://elsewhere", "AGENTFLOW_API_KEY=af_key"}})
	require.NoError(t, c.ParseFlags(args))
	if err := c.PreRunE(c, nil); err != nil {
		return b, err
	}
	err := b.complete(c.Flags().Changed)
	return b, err
}

func TestBenchPlans(t *testing.T) {
	t.Parallel()
	type run struct {
		workload string
		clients  int
	}
	for line, want := range map[string][]run{
		"":                                     {{"three-step", 64}, {"three-step", 1}, {"chat", 64}},
		"--clients 8":                          {{"three-step", 8}, {"chat", 8}},
		"--rate 100":                           {{"three-step", 256}, {"chat", 256}},
		"-w crud":                              {{"crud", 64}},
		"-w crud,api -c 2,3":                   {{"crud", 2}, {"crud", 3}, {"api", 2}, {"api", 3}},
		"-w api -w api --rate 9 -c 5":          {{"api", 5}, {"api", 5}},
		"--workload start --durability always": {{"start", 64}},
	} {
		b, err := planned(t, strings.Fields(line)...)
		require.NoError(t, err, line)
		var got []run
		for _, plan := range b.options.Plans {
			got = append(got, run{plan.Workload.Name, plan.Clients})
		}
		require.Equal(t, want, got, line)
		require.Empty(t, b.options.URL, "a platform that others use is named on the command line")
	}
	b, err := planned(t, "--url", "http://127.0.0.1:8000/", "--duration", "3s", "--warmup", "0s", "--stored")
	require.NoError(t, err)
	require.Equal(t, "http://127.0.0.1:8000", b.options.URL)
	require.Equal(t, "af_key", b.options.Key)
	require.Equal(t, 3*time.Second, b.options.Duration)
	require.True(t, b.options.Stored)
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"-w nope":                            `no workload "nope"`,
		"-c 0":                               "--clients is from 1",
		"-c 20001":                           "--clients is from 1",
		"--rate -1":                          "--rate",
		"--rate 10 --baseline":               "--baseline",
		"-d 0s":                              "--duration",
		"--warmup -1s":                       "--warmup",
		"-n -1":                              "--requests",
		"-n 5 -d 1s":                         "exclude each other",
		"--durability maybe":                 "--durability",
		"--url nonsense":                     "--url",
		"--url http://x --durability always": "there is --url",
		"--url http://x --baseline":          "there is --url",
		"--url http://x --idle 5s":           "there is --url",
		"--url http://x -w start":            "there is --url",
	} {
		_, err := planned(t, strings.Fields(line)...)
		require.ErrorContains(t, err, want, line)
	}
	got := ended(t, nil, "bench", "--rate", "-1")
	require.Equal(t, exitUsage, got.code)
	require.Contains(t, got.stderr, "agentflow bench --help says more")
}

func TestBenchHelp(t *testing.T) {
	t.Parallel()
	got := ended(t, nil, "bench", "--help")
	require.Equal(t, exitOK, got.code)
	for _, w := range bench.Workloads {
		require.Contains(t, got.stdout, "  "+w.Name+" ")
	}
}

// One short run of everything: a platform of its own, the load, the bare path, and nothing left behind.
func TestBench(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	got := ended(t, nil, "bench", "--json", "-w", "three-step,mixed", "-c", "4", "-d", "1s", "--warmup", "100ms", "--baseline", "--stored", "--dir", dir)
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Empty(t, got.stderr, "nobody looks at its progress")
	var report bench.Report
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &report))
	require.Len(t, report.Runs, 2)
	require.Len(t, report.Bare, 1)
	for _, run := range report.Runs {
		require.Empty(t, run.Errors, run.Workload)
		require.Positive(t, run.PerSecond, run.Workload)
		require.Positive(t, run.Latency.P50, run.Workload)
		require.LessOrEqual(t, run.Latency.P50, run.Latency.P99, run.Workload)
		require.NotNil(t, run.Cost.Inside, run.Workload)
		require.Positive(t, run.Cost.CPU["agentflow"], run.Workload)
		require.Positive(t, run.Cost.CPU["client"], run.Workload)
		require.Positive(t, run.Cost.JetStreamBytes, run.Workload)
		require.Positive(t, run.Cost.Memory["agentflow"], run.Workload)
		require.Positive(t, run.Cost.Goroutines, run.Workload)
	}
	require.Positive(t, report.Runs[0].OfBare)
	require.Zero(t, report.Runs[1].OfBare, "not every request of mixed is an execution")
	require.NotEmpty(t, report.Runs[1].Kinds)

	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A platform that runs already is measured as far as it shows, and keeps nothing of it.
func TestBenchElsewhere(t *testing.T) {
	t.Parallel()
	r := start(t, t.TempDir(), []string{"AUTH_REQUIRED=true", "LOG_LEVEL=error"})
	got := ended(t, nil, "bench", "--url", r.URL, "--key", r.APIKey, "-w", "chat,mixed,crud", "-c", "2", "-n", "21", "--warmup", "0s", "--stored")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.Contains(t, got.stdout, "chat")
	require.Contains(t, got.stdout, "client µs")

	var kept struct {
		Total int `json:"total"`
	}
	api := client{url: r.URL, key: r.APIKey}
	require.NoError(t, api.call(t.Context(), "GET", "/workflows", nil, &kept))
	require.Zero(t, kept.Total)

	got = ended(t, nil, "bench", "--url", r.URL, "-w", "chat", "-n", "20")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stderr, "workload chat does not work here: 401")

	code, _ := r.stop(os.Interrupt)
	require.Equal(t, exitOK, code)
}
