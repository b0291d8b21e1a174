package main

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func newValidate(p *process) *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE...",
		Short: "Check workflow files and print every problem, one a line",
		Long: `Checks workflow files (- is stdin) and prints every problem: file, code, node and field, and what is wrong.
Warnings are marked as such. Exits with 1 when a file has a problem that keeps it from running.

It asks no platform, so a source that only a tenant keeps counts as missing (E008): POST /workflows/validate knows it.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &usageError{c.CommandPath(), errors.New("FILE is missing")}
			}
			return nil
		},
		RunE: func(_ *cobra.Command, files []string) error {
			valid := true
			for _, file := range files {
				doc, err := readFile(p, file)
				if err != nil {
					return err
				}
				ok, err := validate(p.stdout, file, doc)
				if err != nil {
					return err
				}
				valid = valid && ok
			}
			if !valid {
				return errSaid
			}
			return nil
		},
	}
}

// validate writes what is wrong with a workflow, and tells whether it would run.
func validate(w io.Writer, file string, doc []byte) (bool, error) {
	spec, err := workflow.Parse(doc)
	var shape *workflow.ShapeError
	switch {
	case errors.As(err, &shape):
		return false, list(w, file, "", shape.Problems())
	case err != nil:
		return false, err
	}
	report := workflow.Validate(spec, workflow.Known{})
	if err := list(w, file, "", report.Errors); err != nil {
		return false, err
	}
	if err := list(w, file, "warning: ", report.Warnings); err != nil {
		return false, err
	}
	if report.Valid {
		_, err = fmt.Fprintf(w, "%s: valid, %d nodes\n", file, len(spec.Nodes))
	}
	return report.Valid, err
}

func list(w io.Writer, file, mark string, problems []workflow.Problem) error {
	for _, problem := range problems {
		if _, err := fmt.Fprintf(w, "%s: %s%s\n", file, mark, problem.Error()); err != nil {
			return err
		}
	}
	return nil
}
