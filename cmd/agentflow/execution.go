package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

var executionFields = []string{"id", "status", "workflow_name", "created_at", "duration_ms", "nodes_run", "tokens_used", "cost"}

func newExecution(p *process) *cobra.Command {
	c := group("execution", "Start, watch, list, cancel and rerun executions", `The executions of a tenant.

  agentflow execution start WORKFLOW_ID --set user_input=Ada --watch
  agentflow execution list --status FAILED --since 24h
  agentflow execution watch EXECUTION_ID                      exit code 0 when it completes, 1 when it ends otherwise`+whichPlatform)
	c.Aliases = []string{"executions"}
	c.AddCommand(newExecutionStart(p), newExecutionList(p), newExecutionGet(p), newExecutionEvents(p), newExecutionWatch(p),
		newExecutionCancel(p), newExecutionRerun(p))
	return c
}

// timeFlags bound a list in time.
type timeFlags struct{ since, until string }

func (t *timeFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&t.since, "since", "", "at or after: a time (RFC 3339), or how long ago, such as 24h")
	c.Flags().StringVar(&t.until, "until", "", "before: a time (RFC 3339), or how long ago")
}

func (t *timeFlags) into(query url.Values) error {
	for name, given := range map[string]string{"since": t.since, "until": t.until} {
		if given == "" {
			continue
		}
		at, err := time.Parse(time.RFC3339, given)
		if ago, bad := time.ParseDuration(given); bad == nil && ago >= 0 {
			at, err = time.Now().Add(-ago), nil
		}
		if err != nil {
			return fmt.Errorf("--%s wants a time such as 2026-01-31T12:00:00Z, or a duration such as 24h, not %q", name, given)
		}
		query.Set(name, at.UTC().Format(time.RFC3339Nano))
	}
	return nil
}

func newExecutionList(p *process) *cobra.Command {
	var r remote
	var span timeFlags
	var status, workflow, tag string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List executions, the newest first", Args: exactly(), Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, _ []string) error {
			query := filters("status", strings.ToUpper(status), "workflow_id", workflow, "tag", tag)
			if err := span.into(query); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return r.list(c.Context(), "/executions", query, limit, executionFields...)
		},
	}
	r.flags(c, p)
	span.flags(c)
	c.Flags().StringVar(&status, "status", "", "PENDING, RUNNING, COMPLETED, FAILED, TIMED_OUT or CANCELLED")
	c.Flags().StringVar(&workflow, "workflow", "", "only those of a stored workflow")
	c.Flags().StringVar(&tag, "tag", "", "only those with a tag")
	c.Flags().IntVar(&limit, "limit", 50, "how many at most; 0 is all")
	suggest(c, "status", func() []string {
		return []string{"PENDING", "RUNNING", "COMPLETED", "FAILED", "TIMED_OUT", "CANCELLED"}
	})
	suggest(c, "workflow", r.ids("/workflows"))
	return c
}

func executionPath(id, verb string) string { return "/executions/" + url.PathEscape(id) + verb }

func newExecutionGet(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "get EXECUTION_ID", Short: "Show an execution with its nodes and its state", Args: exactly("EXECUTION_ID"), Aliases: []string{"show"},
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodGet, executionPath(args[0], ""), nil, executionFields...)
		},
	}
	r.flags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/executions"))
	return c
}

func newExecutionStart(p *process) *cobra.Command {
	var r remote
	var s starting
	c := &cobra.Command{
		Use: "start WORKFLOW_ID|FILE", Short: "Start an execution of a stored workflow or of a workflow file (- is stdin)",
		Long: `Starts an execution and prints its id as soon as it is accepted: from then on it goes on whatever happens to the caller.
With --wait it prints the final state instead, with --watch it shows the execution at work; either way the exit code is
1 when it ends otherwise than completed.`,
		Args: exactly("WORKFLOW_ID|FILE"),
		RunE: func(c *cobra.Command, args []string) error { return s.run(c.Context(), &r, args[0]) },
	}
	r.flags(c, p)
	s.state.flags(c)
	c.Flags().DurationVar(&s.timeout, "timeout", 0, "time that the execution gets (default: what the workflow says, else 5m)")
	c.Flags().StringSliceVar(&s.tags, "tag", nil, "tag to find it by; may be repeated")
	c.Flags().StringVar(&s.idempotency, "idempotency-key", "", "the same key and workflow start one execution, however often (24 h)")
	c.Flags().BoolVar(&s.wait, "wait", false, "wait for the end and print the final state")
	c.Flags().BoolVar(&s.watch, "watch", false, "watch it until it ends")
	c.ValidArgsFunction = func(c *cobra.Command, args []string, to string) ([]string, cobra.ShellCompDirective) {
		found, _ := suggestions(r.ids("/workflows"))(c, args, to)
		return found, cobra.ShellCompDirectiveDefault // or a file
	}
	return c
}

// starting is what the command line says about a new execution.
type starting struct {
	state       initialState
	timeout     time.Duration
	tags        []string
	idempotency string
	wait, watch bool
}

// startBody is the body of POST /workflows/execute and /workflows/{id}/execute.
type startBody struct {
	Workflow json.RawMessage            `json:"workflow,omitempty"`
	State    map[string]json.RawMessage `json:"initial_state"`
	Timeout  float64                    `json:"timeout_seconds,omitempty"`
	Tags     []string                   `json:"tags,omitempty"`
}

func (s *starting) run(ctx context.Context, r *remote, workflow string) error {
	const command = "agentflow execution start"
	body := startBody{Timeout: s.timeout.Seconds(), Tags: s.tags}
	if s.timeout < 0 {
		return &usageError{command, errors.New("--timeout must be more than 0")}
	}
	if s.wait && s.watch {
		return &usageError{command, errors.New("--wait and --watch exclude each other")}
	}
	var err error
	if body.State, err = s.state.read(r.p); err != nil {
		return &usageError{command, err}
	}
	path := "/workflows/" + url.PathEscape(workflow) + "/execute"
	if !isWorkflowID(workflow) {
		path = "/workflows/execute"
		if body.Workflow, err = readJSON(r.p, workflow); err != nil {
			return err
		}
	}
	if s.idempotency != "" {
		r.headers = http.Header{"Idempotency-Key": {s.idempotency}}
	}
	if s.wait {
		answer, err := r.ask(ctx, http.MethodPost, path, body)
		if err != nil {
			return err
		}
		var done struct {
			State json.RawMessage `json:"final_state"`
		}
		if err := decode(answer, &done); err != nil {
			return err
		}
		return printJSON(r.p.stdout, done.State)
	}
	answer, err := r.ask(ctx, http.MethodPost, path+"?mode=async", body)
	if err != nil {
		return err
	}
	return s.accepted(ctx, r, answer)
}

// accepted tells the id of what was accepted, or watches it.
func (s *starting) accepted(ctx context.Context, r *remote, answer json.RawMessage) error {
	if !s.watch {
		return r.print(answer, "execution_id", "status")
	}
	var begun struct {
		ID string `json:"execution_id"`
	}
	if err := decode(answer, &begun); err != nil {
		return err
	}
	return newWatch(r, begun.ID).run(ctx)
}

// isWorkflowID tells the id of a stored workflow from a file, which has a dot or a slash in its name as a rule.
func isWorkflowID(text string) bool {
	return strings.HasPrefix(text, "wf_") && !strings.ContainsAny(text, "./\\")
}

func newExecutionCancel(p *process) *cobra.Command {
	var r remote
	var reason string
	c := &cobra.Command{
		Use: "cancel EXECUTION_ID", Short: "Cancel an execution, whether it runs or waits; harmless twice", Args: exactly("EXECUTION_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodPost, executionPath(args[0], "/cancel"), struct {
				Reason string `json:"reason,omitempty"`
			}{reason}, executionFields...)
		},
	}
	r.flags(c, p)
	c.Flags().StringVar(&reason, "reason", "", "why, for those who look later")
	c.ValidArgsFunction = suggestions(r.ids("/executions?status=RUNNING"))
	return c
}

func newExecutionRerun(p *process) *cobra.Command {
	var r remote
	var s starting
	var from string
	c := &cobra.Command{
		Use: "rerun EXECUTION_ID", Short: "Run an execution again as a new one: from its beginning, or from a node on", Args: exactly("EXECUTION_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			answer, err := r.ask(c.Context(), http.MethodPost, executionPath(args[0], "/rerun?mode=async"), struct {
				From string `json:"from_node,omitempty"`
			}{from})
			if err != nil {
				return err
			}
			return s.accepted(c.Context(), &r, answer)
		},
	}
	r.flags(c, p)
	c.Flags().StringVar(&from, "from", "", "node to begin at; what ended before it is taken as it was")
	c.Flags().BoolVar(&s.watch, "watch", false, "watch it until it ends")
	c.ValidArgsFunction = suggestions(r.ids("/executions"))
	return c
}
