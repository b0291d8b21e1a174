package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// admin is how the commands for tenants and keys reach a platform.
type admin struct {
	api client
	folder
}

const whichPlatform = `

It asks the platform at --url with the admin key. Without either, it is the one that runs on the data folder.`

func (a *admin) flags(c *cobra.Command, p *process) {
	a.folder.flags(c, p)
	a.api.flags(c, p, p.env("AGENTFLOW_URL"), "AGENTFLOW_API_KEY", "AGENTFLOW_ADMIN_KEY")
}

// find looks for what the command line leaves out in the data folder.
func (a *admin) find(p *process) error {
	if a.api.url != "" {
		if a.api.key == "" {
			return errors.New("an admin key is needed: give --key, or set AGENTFLOW_API_KEY")
		}
		return nil
	}
	data := a.data
	if data == "" {
		var err error
		if data, err = dataFolder(p); err != nil {
			return err
		}
	}
	note, ok, err := platform.Running(data)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("no platform runs on %s: start one with agentflow up, or name one with --url and --key", data)
	}
	a.api.url, a.api.key = note.URL, cmp.Or(a.api.key, note.AdminKey)
	return nil
}

// show prints the answer to a request.
func (a *admin) show(ctx context.Context, p *process, method, path string, body any) error {
	if err := a.find(p); err != nil {
		return err
	}
	var answer json.RawMessage
	if err := a.api.call(ctx, method, path, body, &answer); err != nil {
		return err
	}
	return printJSON(p.stdout, answer)
}

// table prints all pages of a list, one line for each item with the fields named.
func (a *admin) table(ctx context.Context, p *process, path string, query url.Values, fields ...string) error {
	if err := a.find(p); err != nil {
		return err
	}
	w := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	line := func(cell func(field string) string) error {
		for _, field := range fields {
			if _, err := fmt.Fprintf(w, "%s\t", cell(field)); err != nil {
				return err
			}
		}
		_, err := fmt.Fprintln(w)
		return err
	}
	if err := line(func(field string) string { return field }); err != nil {
		return err
	}
	query.Set("limit", "100")
	for {
		var page struct {
			Items  []map[string]any `json:"items"`
			Cursor string           `json:"next_cursor"`
			More   bool             `json:"has_more"`
		}
		if err := a.api.call(ctx, "GET", path+"?"+query.Encode(), nil, &page); err != nil {
			return err
		}
		for _, item := range page.Items {
			if err := line(func(field string) string { return cell(item[field]) }); err != nil {
				return err
			}
		}
		if !page.More || page.Cursor == "" {
			return w.Flush()
		}
		query.Set("cursor", page.Cursor)
	}
}

func cell(v any) string {
	switch v := v.(type) {
	case nil:
		return "-"
	case string:
		return v
	default:
		return fmt.Sprint(v)
	}
}
