package main

import (
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
)

var keyFields = []string{"id", "prefix", "name", "status", "expires_at", "created_at"}

func newKeys(p *process) *cobra.Command {
	c := group("key", "Create, list, rotate and revoke API keys", "The API keys of a tenant, for its administrator."+whichPlatform)
	c.Aliases = []string{"keys"}
	c.AddCommand(newKeyCreate(p), newKeyList(p), newKeyGet(p), newKeyRotate(p), newKeyRevoke(p))
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
	var r remote
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
			return r.show(c.Context(), http.MethodPost, "/keys", body, append([]string{"key"}, keyFields...)...)
		},
	}
	r.adminFlags(c, p)
	c.Flags().StringVar(&body.Name, "name", "agentflow key create", "what the key is for")
	c.Flags().StringSliceVar(&body.Scopes, "scope", nil, "what it may do, such as workflows:execute (default: everything within the tenant)")
	c.Flags().DurationVar(&expires, "expires", 0, "time that it lives, such as 720h (default: for ever)")
	c.ValidArgsFunction = suggestions(r.ids("/tenants"))
	return c
}

func newKeyList(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "list TENANT", Short: "List the API keys of a tenant", Args: exactly("TENANT"), Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, args []string) error {
			return r.list(c.Context(), "/keys", url.Values{"tenant_id": {args[0]}}, 0, keyFields...)
		},
	}
	r.adminFlags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/tenants"))
	return c
}

// keyPath is the address of a key of a tenant, or of something that can be done with it.
func keyPath(tenant, id, verb string) string {
	return "/keys/" + url.PathEscape(id) + verb + "?" + url.Values{"tenant_id": {tenant}}.Encode()
}

func newKeyGet(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "get TENANT KEY_ID", Short: "Show an API key, without its secret", Args: exactly("TENANT", "KEY_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodGet, keyPath(args[0], args[1], ""), nil, keyFields...)
		},
	}
	r.adminFlags(c, p)
	return c
}

func newKeyRotate(p *process) *cobra.Command {
	var r remote
	var overlap time.Duration
	c := &cobra.Command{
		Use: "rotate TENANT KEY_ID", Short: "Give an API key a new secret; it is shown this once", Args: exactly("TENANT", "KEY_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodPost, keyPath(args[0], args[1], "/rotate"), struct {
				Overlap int `json:"overlap_seconds,omitempty"`
			}{int(overlap.Seconds())}, append([]string{"key"}, keyFields...)...)
		},
	}
	r.adminFlags(c, p)
	c.Flags().DurationVar(&overlap, "overlap", 0, "time for which the old secret stays valid, at most 168h")
	return c
}

func newKeyRevoke(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "revoke TENANT KEY_ID", Short: "Revoke an API key at once", Args: exactly("TENANT", "KEY_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodDelete, keyPath(args[0], args[1], ""), nil, keyFields...)
		},
	}
	r.adminFlags(c, p)
	return c
}
