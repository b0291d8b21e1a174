package main

import (
	"net/url"

	"github.com/spf13/cobra"
)

func newTenant(p *process) *cobra.Command {
	c := group("tenant", "Create, list, suspend and resume tenants", "The tenants of a platform."+whichPlatform)
	c.AddCommand(newTenantCreate(p), newTenantList(p),
		newTenantStatus(p, "suspend", "suspended", "Refuse every key of a tenant from now on"),
		newTenantStatus(p, "resume", "active", "Let a suspended tenant work again"))
	return c
}

func newTenantCreate(p *process) *cobra.Command {
	var a admin
	var name string
	c := &cobra.Command{
		Use: "create ID", Short: "Create a tenant", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.show(c.Context(), p, "POST", "/tenants", struct {
				ID   string `json:"id"`
				Name string `json:"name,omitempty"`
			}{args[0], name})
		},
	}
	a.flags(c, p)
	c.Flags().StringVar(&name, "name", "", "name for people (default the id)")
	return c
}

func newTenantList(p *process) *cobra.Command {
	var a admin
	c := &cobra.Command{
		Use: "list", Short: "List the tenants", Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error {
			return a.table(c.Context(), p, "/tenants", url.Values{}, "id", "name", "status", "created_at")
		},
	}
	a.flags(c, p)
	return c
}

func newTenantStatus(p *process, use, status, short string) *cobra.Command {
	var a admin
	c := &cobra.Command{
		Use: use + " ID", Short: short, Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.show(c.Context(), p, "PUT", "/tenants/"+url.PathEscape(args[0]), struct {
				Status string `json:"status"`
			}{status})
		},
	}
	a.flags(c, p)
	return c
}
