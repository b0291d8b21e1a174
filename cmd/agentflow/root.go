package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/pkg/daemon"
)

// What agentflow exits with.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2 // the command line or the configuration is wrong; trying again will not help
)

// errSaid is a failure that has been told already, such as the problems of a workflow.
var errSaid = errors.New("failed")

// usageError is a mistake on the command line.
type usageError struct {
	command string
	err     error
}

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// process is what a command has of the world.
type process struct {
	environ        []string
	stdin          io.Reader
	stdout, stderr io.Writer
}

func execute(args, environ []string, stdin io.Reader, stdout, stderr io.Writer) int {
	// A reader of our output that goes away must not end us in the middle of something; writing to it then fails.
	signal.Ignore(syscall.SIGPIPE)
	ctx, stop := untilSignal(context.Background())
	defer stop()

	root := newRoot(&process{environ: environ, stdin: stdin, stdout: stdout, stderr: stderr})
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	return report(stderr, err)
}

// report tells what went wrong, and gives the exit code.
func report(stderr io.Writer, err error) int {
	var usage *usageError
	var config *daemon.ConfigError
	code := exitFailed
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, errSaid):
		return exitFailed
	case errors.As(err, &usage):
		err = fmt.Errorf("%w; %s --help says more", err, usage.command)
		code = exitUsage
	case errors.As(err, &config):
		code = exitUsage
	}
	_, _ = fmt.Fprintln(stderr, "agentflow:", err) // with stderr gone there is nobody to tell
	return code
}

// untilSignal ends its context at the first SIGTERM or Ctrl-C; the second ends the process at once.
func untilSignal(ctx context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	if !signal.Ignored(syscall.SIGHUP) { // nohup means it
		signal.Notify(signals, syscall.SIGHUP)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 2 {
			if _, ok := <-signals; !ok {
				return
			}
			if ctx.Err() != nil {
				os.Exit(exitFailed)
			}
			cancel()
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		close(signals)
		<-done
		cancel()
	}
}

func newRoot(p *process) *cobra.Command {
	root := group("agentflow", "Stores and runs JSON agent workflows, durably", `AgentFlow stores and runs JSON agent workflows, durably.

  agentflow up                             start the platform on this machine
  agentflow run examples/hello.json        run a workflow file and print its final state
  agentflow validate examples/*.json       check workflow files

Exit codes: 0 done, 1 failed, 2 wrong command line or configuration.`)
	root.SilenceErrors, root.SilenceUsage = true, true
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return &usageError{c.CommandPath(), err} })
	root.AddCommand(
		newUp(p), newRun(p), newValidate(p),
		newWorkflow(p), newSource(p), newExecution(p),
		newTenant(p), newKeys(p), newContext(p),
		newMigrate(p), newReplay(p), newVerify(p),
		newBench(p), newVersion(p),
	)
	return root
}

// group is a command that only has commands below it.
func group(use, short, long string) *cobra.Command {
	return &cobra.Command{
		Use: use, Short: short, Long: long,
		Args:                       cobra.ArbitraryArgs, // so that RunE sees what is no command
		SuggestionsMinimumDistance: 2,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			err := fmt.Errorf("there is no command %q", args[0])
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(near, " or "))
			}
			return &usageError{c.CommandPath(), err}
		},
	}
}

// exactly refuses any other number of arguments than the names it is given.
func exactly(names ...string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == len(names) {
			return nil
		}
		if len(args) > len(names) {
			return &usageError{c.CommandPath(), fmt.Errorf("unexpected argument %q", args[len(names)])}
		}
		return &usageError{c.CommandPath(), fmt.Errorf("%s is missing", strings.Join(names[len(args):], " "))}
	}
}

// env is the value of a variable, the last one that is given; "" when there is none.
func (p *process) env(name string) string {
	for _, entry := range slices.Backward(p.environ) {
		if n, value, ok := strings.Cut(entry, "="); ok && n == name {
			return value
		}
	}
	return ""
}

// firstEnv is the first of several variables that is set.
func (p *process) firstEnv(names ...string) string {
	for _, name := range names {
		if value := p.env(name); value != "" {
			return value
		}
	}
	return ""
}
