package main

import (
	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
	"github.com/agentflow/agentflow/services/catalog"
)

func newReplay(p *process) *cobra.Command {
	var f folder
	c := &cobra.Command{
		Use:   "replay",
		Short: "Build every table again from the log",
		Long: `Builds every table again in a fresh schema, from the catalog's log, the archive of executions and the hot log, and
puts it in the place of the present one. A running platform goes on working meanwhile.` + whichStores,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.with(c.Context(), p, func(s *platform.Stores) error {
				b, err := s.Bus(c.Context())
				if err != nil {
					return err
				}
				defer b.Close()
				return catalog.Replay(c.Context(), s.Catalog, b, p.stderr)
			})
		},
	}
	f.flags(c, p)
	return c
}
