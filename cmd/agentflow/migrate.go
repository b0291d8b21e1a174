package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
	"github.com/agentflow/agentflow/db"
)

func newMigrate(p *process) *cobra.Command {
	c := group("migrate", "Bring the database schema up to date, take steps back, or show where it stands",
		`The schema of the database, migration by migration. "agentflow up" and catalog bring it up to date by themselves.`+whichStores)
	c.AddCommand(newMigrateUp(p), newMigrateDown(p), newMigrateStatus(p))
	return c
}

func newMigrateUp(p *process) *cobra.Command {
	var f folder
	c := &cobra.Command{
		Use: "up", Short: "Apply what is missing, and make the login of the catalog service", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.with(c.Context(), p, func(s *platform.Stores) error {
				if err := db.Migrate(c.Context(), s.DatabaseURL, db.Options{Log: p.stdout}); err != nil {
					return err
				}
				if _, err := db.Provision(c.Context(), s.DatabaseURL, db.Access{Password: s.Catalog.ServicePassword}); err != nil {
					return err
				}
				return migrationStatus(c.Context(), p, s)
			})
		},
	}
	f.flags(c, p)
	return c
}

func newMigrateDown(p *process) *cobra.Command {
	var f folder
	steps, all := 1, false
	c := &cobra.Command{
		Use: "down", Short: "Take back the last migrations; what is in the tables they made is gone", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			if steps < 1 {
				return &usageError{c.CommandPath(), fmt.Errorf("--steps must be at least 1, not %d", steps)}
			}
			if all {
				steps = -1
			}
			return f.with(c.Context(), p, func(s *platform.Stores) error {
				if err := db.Down(c.Context(), s.DatabaseURL, steps, db.Options{Log: p.stdout}); err != nil {
					return err
				}
				return migrationStatus(c.Context(), p, s)
			})
		},
	}
	f.flags(c, p)
	c.Flags().IntVar(&steps, "steps", 1, "how many")
	c.Flags().BoolVar(&all, "all", false, "all of them")
	return c
}

func newMigrateStatus(p *process) *cobra.Command {
	var f folder
	c := &cobra.Command{
		Use: "status", Short: "List the migrations; exit with 1 when some are missing", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return f.with(c.Context(), p, func(s *platform.Stores) error {
				if err := migrationStatus(c.Context(), p, s); err != nil {
					return err
				}
				list, err := db.Status(c.Context(), s.DatabaseURL, db.Options{})
				for _, m := range list {
					if !m.Applied {
						return errSaid
					}
				}
				return err
			})
		},
	}
	f.flags(c, p)
	return c
}

func migrationStatus(ctx context.Context, p *process, s *platform.Stores) error {
	list, err := db.Status(ctx, s.DatabaseURL, db.Options{})
	if err != nil {
		return err
	}
	for _, m := range list {
		mark := "missing"
		if m.Applied {
			mark = "applied"
		}
		if _, err := fmt.Fprintf(p.stdout, "%s  %s\n", mark, m.File); err != nil {
			return err
		}
	}
	return nil
}
