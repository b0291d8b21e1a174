package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/pkg/daemon"
)

func newVersion(p *process) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.stdout, "agentflow", daemon.Version())
			return err
		},
	}
}
