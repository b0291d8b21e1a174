package main

import (
	"errors"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

var tenantFields = []string{"id", "name", "status", "created_at"}

func newTenant(p *process) *cobra.Command {
	c := group("tenant", "Create, list, change, suspend and resume tenants", "The tenants of a platform, for its administrator."+whichPlatform)
	c.Aliases = []string{"tenants"}
	c.AddCommand(newTenantCreate(p), newTenantList(p), newTenantGet(p), newTenantUpdate(p),
		newTenantStatus(p, "suspend", "suspended", "Refuse every key of a tenant from now on"),
		newTenantStatus(p, "resume", "active", "Let a suspended tenant work again"))
	return c
}

// limits are what a tenant may use; nil leaves the platform's default, 0 is no limit.
type limits struct {
	Messages *int `json:"max_messages_per_second,omitempty"`
	Requests *int `json:"max_requests_per_minute,omitempty"`
	Tokens   *int `json:"max_tokens_per_minute,omitempty"`
	Burst    *int `json:"burst_size,omitempty"`
}

// limitFlags are the limits on a command line; given tells which of them were.
type limitFlags struct{ messages, requests, tokens, burst int }

func (l *limitFlags) flags(c *cobra.Command) {
	c.Flags().IntVar(&l.messages, "messages-per-second", 0, "limit; 0 is none (default: the platform's)")
	c.Flags().IntVar(&l.requests, "requests-per-minute", 0, "limit; 0 is none (default: the platform's)")
	c.Flags().IntVar(&l.tokens, "tokens-per-minute", 0, "limit of LLM tokens; 0 is none (default: the platform's)")
	c.Flags().IntVar(&l.burst, "burst", 0, "messages that may pass back to back")
}

func (l *limitFlags) given(c *cobra.Command) *limits {
	var set limits
	for _, one := range []struct {
		flag  string
		value *int
		field **int
	}{
		{"messages-per-second", &l.messages, &set.Messages},
		{"requests-per-minute", &l.requests, &set.Requests},
		{"tokens-per-minute", &l.tokens, &set.Tokens},
		{"burst", &l.burst, &set.Burst},
	} {
		if c.Flags().Changed(one.flag) {
			*one.field = one.value
		}
	}
	if set == (limits{}) {
		return nil
	}
	return &set
}

func newTenantCreate(p *process) *cobra.Command {
	var r remote
	var name string
	var limit limitFlags
	c := &cobra.Command{
		Use: "create ID", Short: "Create a tenant", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodPost, "/tenants", struct {
				ID     string  `json:"id"`
				Name   string  `json:"name,omitempty"`
				Limits *limits `json:"limits,omitempty"`
			}{args[0], name, limit.given(c)}, tenantFields...)
		},
	}
	r.adminFlags(c, p)
	limit.flags(c)
	c.Flags().StringVar(&name, "name", "", "name for people (default the id)")
	return c
}

func newTenantList(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "list", Short: "List the tenants", Args: exactly(), Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, _ []string) error {
			return r.list(c.Context(), "/tenants", url.Values{}, 0, tenantFields...)
		},
	}
	r.adminFlags(c, p)
	return c
}

func newTenantGet(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "get ID", Short: "Show a tenant with its limits", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodGet, "/tenants/"+url.PathEscape(args[0]), nil, tenantFields...)
		},
	}
	r.adminFlags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/tenants"))
	return c
}

func newTenantUpdate(p *process) *cobra.Command {
	var r remote
	var name string
	var limit limitFlags
	c := &cobra.Command{
		Use: "update ID", Short: "Change the name or the limits of a tenant; limits replace all it had", Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			set := limit.given(c)
			if set == nil && name == "" {
				return &usageError{c.CommandPath(), errors.New("nothing to change: give --name or a limit")}
			}
			return r.show(c.Context(), http.MethodPut, "/tenants/"+url.PathEscape(args[0]), struct {
				Name   string  `json:"name,omitempty"`
				Limits *limits `json:"limits,omitempty"`
			}{name, set}, tenantFields...)
		},
	}
	r.adminFlags(c, p)
	limit.flags(c)
	c.Flags().StringVar(&name, "name", "", "name for people")
	c.ValidArgsFunction = suggestions(r.ids("/tenants"))
	return c
}

func newTenantStatus(p *process, use, status, short string) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: use + " ID", Short: short, Args: exactly("ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodPut, "/tenants/"+url.PathEscape(args[0]), struct {
				Status string `json:"status"`
			}{status}, tenantFields...)
		},
	}
	r.adminFlags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/tenants"))
	return c
}
