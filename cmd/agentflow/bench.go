package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/bench"
)

func newBench(p *process) *cobra.Command {
	_, c := benchCommand(p)
	return c
}

// benchCommand gives what the command line fills in, too.
func benchCommand(p *process) (*benchmark, *cobra.Command) {
	b := &benchmark{}
	c := &cobra.Command{
		Use:   "bench",
		Short: "Load a platform and measure it",
		Long: `Loads a platform and prints how many requests it answers, how long they take, and what each one costs: CPU time of
every process, bytes in the log and in the database, memory, and how far the tables fall behind.

Without --url it starts a platform for this alone, in a child process, on a temporary folder with stores of its own,
and removes it in the end. Of a platform at --url only what a client sees is measured.

Clients make one request after another (closed loop). With --rate requests are due at fixed times, and are late from
then on (open loop): a stall shows in the percentiles as long as it was.

Workloads:
` + workloadList() + `
Without any it runs three-step with 64 clients and with 1, and chat with 64. docs/benchmarks.md says what each figure
means.`,
		Example: `  agentflow bench
  agentflow bench --workload three-step,chat --clients 64,1 --duration 30s --baseline
  agentflow bench --workload three-step --rate 2000 --json
  agentflow bench --workload api --clients 1000 --requests 1000 --warmup 0s
  agentflow bench --workload mixed --durability always --dir /var/tmp
  agentflow bench --workload start
  agentflow bench --url http://127.0.0.1:8000 --key "$AGENTFLOW_API_KEY" --workload chat`,
		Args: exactly(),
	}
	c.Flags().StringSliceVarP(&b.workloads, "workload", "w", nil, "`WORKLOADS` to run, in this order; one may come twice")
	c.Flags().IntSliceVarP(&b.clients, "clients", "c", nil, "how many clients; with several `NUMBERS` each workload runs with each (default 64, with --rate 256)")
	c.Flags().Float64Var(&b.options.Rate, "rate", 0, "requests a second that are due, whatever comes back (open loop); 0 is the closed loop")
	c.Flags().DurationVarP(&b.options.Duration, "duration", "d", 10*time.Second, "how long each run is measured")
	c.Flags().DurationVar(&b.options.Warmup, "warmup", 2*time.Second, "load before that")
	c.Flags().Int64VarP(&b.options.Requests, "requests", "n", 0, "measure that many requests, whatever time they take, instead of a --duration")
	c.Flags().Int64Var(&b.options.Fill, "fill", 0, "before anything is measured run that many executions of three-step")
	c.Flags().BoolVar(&b.options.Stored, "stored", false, "store the workflows first and run them by their id; otherwise each request holds its workflow")
	c.Flags().BoolVar(&b.options.Baseline, "baseline", false, "run the bare path, too (request, fenced append, job, commit, reply, in this process), and print the ratio to it")
	c.Flags().DurationVar(&b.options.Idle, "idle", 0, "after each run wait, and tell what the platform still holds")
	c.Flags().StringVar(&b.options.Profile, "profile", "", "write a CPU profile of the platform during the first run to `FILE`")
	c.Flags().StringVar(&b.options.Durability, "durability", "interval", "when the log is synced to disk: interval (every 100 ms) or always (before each acknowledgement)")
	c.Flags().StringVar(&b.options.Dir, "dir", "", "where to make the temporary folder; a disk like that of the real platform tells most (default: the system's)")
	c.Flags().BoolVar(&b.json, "json", false, "print JSON instead of tables")
	// AGENTFLOW_URL does not count: whoever loads a platform that others use says so.
	b.api.flags(c, p, "", "AGENTFLOW_API_KEY")
	c.Flags().Lookup("url").Usage = "load the platform at `ADDRESS`, which runs already"
	c.RunE = func(c *cobra.Command, _ []string) error {
		if err := b.complete(c.Flags().Changed); err != nil {
			return &usageError{c.CommandPath(), err}
		}
		return b.run(c.Context(), p)
	}
	return b, c
}

func workloadList() string {
	var b strings.Builder
	for _, w := range bench.Workloads {
		fmt.Fprintf(&b, "  %-11s %s\n", w.Name, w.About)
	}
	return b.String()
}

// benchmark is what the command line asks for.
type benchmark struct {
	workloads []string
	clients   []int
	json      bool
	api       client
	options   bench.Options
}

const (
	defaultClients  = 64
	defaultOpenLoop = 256 // enough that requests are sent when they are due
	mostClients     = 20_000
)

// complete checks the flags and fills in what they leave open.
func (b *benchmark) complete(changed func(string) bool) error {
	o := &b.options
	o.URL, o.Key = b.api.url, b.api.key
	switch {
	case o.Rate < 0 || o.Rate > 10_000_000:
		return fmt.Errorf("--rate is requests a second, from 0 to 10,000,000, not %g", o.Rate)
	case o.Requests < 0 || o.Fill < 0:
		return errors.New("--requests and --fill must not be less than 0")
	case o.Warmup < 0 || o.Idle < 0:
		return errors.New("--warmup and --idle must not be less than 0")
	case o.Requests == 0 && o.Duration <= 0:
		return errors.New("--duration must be more than 0")
	case o.Requests > 0 && changed("duration"):
		return errors.New("--requests and --duration exclude each other")
	case o.Baseline && o.Rate > 0:
		return errors.New("--baseline compares how much can be done; with --rate no more is done than is due")
	case o.Durability != "interval" && o.Durability != "always":
		return fmt.Errorf("--durability is interval or always, not %q", o.Durability)
	}
	if o.URL != "" {
		for _, name := range []string{"durability", "dir", "idle", "profile", "baseline", "fill"} {
			if changed(name) {
				return fmt.Errorf("--%s is for a platform of bench's own, and there is --url", name)
			}
		}
	}
	for _, clients := range b.clients {
		if clients < 1 || clients > mostClients {
			return fmt.Errorf("--clients is from 1 to %d, not %d", mostClients, clients)
		}
	}
	var workloads []bench.Workload
	for _, name := range b.workloads {
		w, ok := bench.Find(name)
		if !ok {
			return fmt.Errorf("there is no workload %q", name)
		}
		if name == "start" && o.URL != "" {
			return errors.New("workload start is for a platform of bench's own, and there is --url")
		}
		workloads = append(workloads, w)
	}
	o.Plans = b.plans(workloads)
	return nil
}

// plans decides what runs with how many clients.
func (b *benchmark) plans(workloads []bench.Workload) []bench.Plan {
	clients := b.clients
	if len(clients) == 0 {
		clients = []int{defaultClients}
		if b.options.Rate > 0 {
			clients = []int{defaultOpenLoop}
		}
	}
	if len(workloads) == 0 && len(b.clients) == 0 && b.options.Rate == 0 {
		return []bench.Plan{
			{Workload: bench.ThreeStep, Clients: defaultClients}, {Workload: bench.ThreeStep, Clients: 1}, {Workload: bench.Chat, Clients: defaultClients},
		}
	}
	if len(workloads) == 0 {
		workloads = []bench.Workload{bench.ThreeStep, bench.Chat}
	}
	var plans []bench.Plan
	for _, w := range workloads {
		for _, n := range clients {
			plans = append(plans, bench.Plan{Workload: w, Clients: n})
		}
	}
	return plans
}

func (b *benchmark) run(ctx context.Context, p *process) error {
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to start a platform: %w", err)
	}
	b.options.Program, b.options.Environ = []string{program}, p.environ
	if watched(p) {
		b.options.Progress = p.stderr
	}
	report, err := bench.Run(ctx, b.options)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil && len(report.Runs) == 0 && report.Startup == nil {
		return err
	}
	return errors.Join(err, b.print(p.stdout, report))
}

func (b *benchmark) print(w io.Writer, report *bench.Report) error {
	if !b.json {
		return report.Table(w)
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(report)
}

// watched tells whether a person looks at stderr, on something that can overwrite a line.
func watched(p *process) bool {
	return logFormat(p.stderr) == "console" && p.env("NO_COLOR") == "" && p.env("CI") == "" && p.env("TERM") != "dumb"
}
