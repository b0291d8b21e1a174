package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// maxFile bounds a workflow file; the API takes 1 MiB.
const maxFile = 16 << 20

func newRun(p *process) *cobra.Command {
	r := run{up: up{http: "127.0.0.1:0"}}
	c := &cobra.Command{
		Use:   "run FILE",
		Short: "Run a workflow file and print its final state",
		Long: `Runs a workflow file (- is stdin) and prints the final state as JSON.

With --url, or AGENTFLOW_URL, it runs on that platform. Otherwise it starts one for this run alone: in a temporary
folder with stores of its own, or in the folder that --data names.

When the workflow fails the error is on stderr and the exit code 1.`,
		Example: `  agentflow run examples/hello.json --set user_input=Ada
  agentflow run examples/router.json --input '{"user_input":"Where is my refund?"}' --url http://127.0.0.1:8000`,
		Args: exactly("FILE"),
		RunE: func(c *cobra.Command, args []string) error { return r.run(c.Context(), p, args[0]) },
	}
	r.state.flags(c)
	c.Flags().DurationVar(&r.timeout, "timeout", 0, "time that the execution gets (default: what the workflow says, else 5m)")
	r.api.flags(c, p, p.env("AGENTFLOW_URL"), "AGENTFLOW_API_KEY")
	r.up.flags(c, p)
	return c
}

type run struct {
	up      up
	api     client
	state   initialState
	timeout time.Duration
}

// order is the body of POST /workflows/execute.
type order struct {
	Workflow json.RawMessage            `json:"workflow"`
	State    map[string]json.RawMessage `json:"initial_state"`
	Timeout  float64                    `json:"timeout_seconds,omitempty"`
}

func (r *run) run(ctx context.Context, p *process, file string) error {
	o, err := r.order(p, file)
	if err != nil {
		return err
	}
	if r.api.url != "" {
		return r.execute(ctx, p.stdout, &r.api, o)
	}
	options, err := r.up.options(p, "error")
	if err != nil {
		return err
	}
	if r.up.data == "" {
		// The stores of the environment belong to another log: what is in this folder is gone in a moment.
		options.Private = true
		if options.Data, err = os.MkdirTemp("", "agentflow-run-"); err != nil {
			return fmt.Errorf("make a folder for this run: %w", err)
		}
		defer func() { _ = os.RemoveAll(options.Data) }() // a temporary folder: the system clears it at the latest
	}
	return platform.Run(ctx, options, func(ctx context.Context, info platform.Info) error {
		return r.execute(ctx, p.stdout, &client{url: info.URL, key: info.APIKey}, o)
	})
}

func (r *run) execute(ctx context.Context, stdout io.Writer, api *client, o order) error {
	var answer struct {
		FinalState json.RawMessage `json:"final_state"`
	}
	if err := api.call(ctx, "POST", "/workflows/execute", o, &answer); err != nil {
		return err
	}
	return printJSON(stdout, answer.FinalState)
}

func (r *run) order(p *process, file string) (order, error) {
	var o order
	var err error
	if o.Workflow, err = readJSON(p, file); err != nil {
		return o, err
	}
	if o.State, err = r.state.read(p); err != nil {
		return o, &usageError{"agentflow run", err}
	}
	if r.timeout < 0 {
		return o, &usageError{"agentflow run", errors.New("--timeout must be more than 0")}
	}
	o.Timeout = r.timeout.Seconds()
	return o, nil
}

// readFile reads a file, or stdin for -.
func readFile(p *process, name string) ([]byte, error) {
	in := p.stdin
	if name != "-" {
		file, err := os.Open(name)
		if err != nil {
			return nil, err
		}
		defer func() { _ = file.Close() }() // only read from
		in = file
	}
	text, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d MiB", name, maxFile>>20)
	}
	return text, nil
}

// printJSON writes a document for people, numbers and order untouched.
func printJSON(w io.Writer, doc json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Indent(&b, doc, "", "  "); err != nil {
		return fmt.Errorf("the answer is no JSON: %w", err)
	}
	b.WriteByte('\n')
	_, err := w.Write(b.Bytes())
	return err
}
