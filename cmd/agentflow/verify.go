package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/services/catalog"
)

func newVerify(p *process) *cobra.Command {
	var f folder
	var asJSON bool
	limit := 100
	c := &cobra.Command{
		Use:   "verify",
		Short: "Compare every table with the log; exit with 1 when they differ",
		Long: `Builds every table again beside the present ones, compares them row by row, and prints each difference on a line.
A running platform goes on working meanwhile.` + whichStores,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.with(c.Context(), p, func(s *platform.Stores) error {
				b, err := s.Bus(c.Context())
				if err != nil {
					return err
				}
				defer b.Close()
				report, err := catalog.Verify(c.Context(), s.Catalog, b, limit, p.stderr)
				if err != nil {
					return err
				}
				return printReport(p.stdout, report, asJSON)
			})
		},
	}
	f.flags(c, p)
	c.Flags().BoolVar(&asJSON, "json", false, "print the report as JSON")
	c.Flags().IntVar(&limit, "limit", limit, "differences to describe for each table")
	return c
}

func printReport(w io.Writer, report protocol.VerifyReport, asJSON bool) error {
	if asJSON {
		text, err := json.Marshal(report)
		if err != nil {
			return fmt.Errorf("encode the report: %w", err)
		}
		if err := printJSON(w, text); err != nil {
			return err
		}
	} else {
		for _, d := range report.Differences {
			if _, err := fmt.Fprintf(w, "%s %s %s: log %s, table %s\n", d.Table, d.ID, cmp.Or(d.Field, "row"), cmp.Or(d.Log, "nothing"), cmp.Or(d.Row, "nothing")); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintf(w, "%d documents, %d executions, %d commits: %d differences\n", report.Documents, report.Executions, report.Commits, report.Total)
		if err != nil {
			return err
		}
	}
	if report.Total > 0 {
		return errSaid
	}
	return nil
}
