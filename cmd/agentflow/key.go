package main

import (
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

func newKeys(p *process) *cobra.Command {
	c := group("key", "Create, list and revoke API keys", "The API keys of a tenant."+whichPlatform)
	c.AddCommand(newKeyCreate(p), newKeyList(p), newKeyRevoke(p))
	return c
}

// newKeyBody is what makes a key.
type newKeyBody struct {
	Tenant  string     `json:"tenant_id"`
	Name    string     `json:"name"`
	Scopes  []string   `json:"scopes,omitempty"`
	Expires *time.Time `json:"expires_at,omitempty"`
}

func newKeyCreate(p *process) *cobra.Command {
	var a admin
	var body newKeyBody
	var expires time.Duration
	c := &cobra.Command{
		Use: "create TENANT", Short: "Create an API key; it is shown this once", Args: exactly("TENANT"),
		RunE: func(c *cobra.Command, args []string) error {
			body.Tenant = args[0]
			if expires != 0 {
				at := time.Now().Add(expires).UTC()
				body.Expires = &at
			}
			return a.show(c.Context(), p, "POST", "/keys", body)
		},
	}
	a.flags(c, p)
	c.Flags().StringVar(&body.Name, "name", "agentflow key create", "what the key is for")
	c.Flags().StringSliceVar(&body.Scopes, "scope", nil, "what it may do, such as workflows:execute (default: everything within the tenant)")
	c.Flags().DurationVar(&expires, "expires", 0, "time that it lives, such as 720h (default: for ever)")
	return c
}

func newKeyList(p *process) *cobra.Command {
	var a admin
	c := &cobra.Command{
		Use: "list TENANT", Short: "List the API keys of a tenant", Args: exactly("TENANT"),
		RunE: func(c *cobra.Command, args []string) error {
			return a.table(c.Context(), p, "/keys", url.Values{"tenant_id": {args[0]}}, "id", "prefix", "name", "status", "expires_at", "created_at")
		},
	}
	a.flags(c, p)
	return c
}

func newKeyRevoke(p *process) *cobra.Command {
	var a admin
	c := &cobra.Command{
		Use: "revoke TENANT KEY_ID", Short: "Revoke an API key at once", Args: exactly("TENANT", "KEY_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{"tenant_id": {args[0]}}
			return a.show(c.Context(), p, "DELETE", "/keys/"+url.PathEscape(args[1])+"?"+query.Encode(), nil)
		},
	}
	a.flags(c, p)
	return c
}
