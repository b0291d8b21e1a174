package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// folder says which platform's stores an administrator's command works on.
type folder struct{ data string }

const whichStores = `

It works on the platform in the folder that --data names, running or not; without --data on the stores that
DATABASE_URL (the owner's) and NATS_URL name; without either on the default data folder.`

func (f *folder) flags(c *cobra.Command, p *process) {
	c.Flags().StringVar(&f.data, "data", p.env("AGENTFLOW_DATA"), "data folder (AGENTFLOW_DATA; default "+defaultData+")")
}

// with opens the stores for the time of do.
func (f *folder) with(ctx context.Context, p *process, do func(*platform.Stores) error) error {
	data := f.data
	if data == "" && p.firstEnv("DATABASE_URL", "DATABASE_URL_FILE") == "" {
		var err error
		if data, err = dataFolder(p); err != nil {
			return err
		}
	}
	stores, err := platform.OpenStores(ctx, data, p.environ)
	if err != nil {
		return err
	}
	return errors.Join(do(stores), stores.Close(ctx))
}
