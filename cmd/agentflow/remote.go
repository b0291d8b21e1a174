package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// remote is how a command reaches a platform, and how it shows what that answers.
type remote struct {
	p   *process
	api client
	folder
	context string
	output  string
	quiet   bool
	ifMatch int // version that a change is based on; 0 is any
	headers http.Header
	admin   bool // the command is for administrators: it takes the admin key where it has to choose
}

const whichPlatform = `

Which platform: the one at --url (AGENTFLOW_URL); else that of --context (AGENTFLOW_CONTEXT); else the one that runs on
the folder of --data (AGENTFLOW_DATA); else that of the current context; else the one on the default data folder.
A context uses its own key and no other.`

// flags are those of a command for everybody.
func (r *remote) flags(c *cobra.Command, p *process) {
	r.connect(c, p)
	c.Flags().StringVar(&r.api.tenant, "tenant", "", "tenant to act for; only the admin key may choose")
	suggest(c, "tenant", r.ids("/tenants"))
}

// adminFlags are those of a command for administrators.
func (r *remote) adminFlags(c *cobra.Command, p *process) {
	r.admin = true
	r.connect(c, p)
}

func (r *remote) connect(c *cobra.Command, p *process) {
	r.p = p
	r.folder.flags(c, p)
	r.api.addressFlags(c, p.env("AGENTFLOW_URL"), "AGENTFLOW_API_KEY, for administrators else AGENTFLOW_ADMIN_KEY")
	c.Flags().StringVar(&r.context, "context", p.env("AGENTFLOW_CONTEXT"), "context to use (AGENTFLOW_CONTEXT)")
	c.Flags().StringVarP(&r.output, "output", "o", "", "json or table (default: table for lists, else json)")
	c.Flags().BoolVarP(&r.quiet, "quiet", "q", false, "print ids alone, one a line; of a new API key the key")
	suggest(c, "output", func() []string { return []string{"json", "table"} })
	suggest(c, "context", p.contextNames)
	c.PreRunE = func(c *cobra.Command, _ []string) error {
		if r.output != "" && r.output != "json" && r.output != "table" {
			return &usageError{c.CommandPath(), fmt.Errorf("--output is json or table, not %q", r.output)}
		}
		if c.Flags().Changed("url") && c.Flags().Changed("context") {
			return &usageError{c.CommandPath(), errors.New("--url and --context exclude each other")}
		}
		if c.Flags().Changed("context") {
			r.api.url = "" // a flag counts over a variable
		}
		return r.api.checkURL(c.CommandPath())
	}
}

// ifMatchFlag lets a change depend on the version that it is based on.
func (r *remote) ifMatchFlag(c *cobra.Command) {
	c.Flags().IntVar(&r.ifMatch, "if-match", 0, "version that the change is based on; another one refuses it")
}

// find looks for what the command line leaves out.
func (r *remote) find() error {
	if r.api.url != "" {
		r.api.key = cmp.Or(r.api.key, r.environmentKey())
		if r.admin && r.api.key == "" {
			return errors.New("an admin key is needed: give --key, or set AGENTFLOW_API_KEY")
		}
		return nil
	}
	name := r.context
	if name == "" && r.data == "" {
		var err error
		if name, err = r.p.currentContext(); err != nil {
			return err
		}
	}
	if name != "" {
		return r.fromContext(name)
	}
	return r.fromFolder()
}

func (r *remote) environmentKey() string {
	if r.admin {
		return r.p.firstEnv("AGENTFLOW_API_KEY", "AGENTFLOW_ADMIN_KEY")
	}
	return r.p.env("AGENTFLOW_API_KEY")
}

func (r *remote) fromContext(name string) error {
	at, err := r.p.contextNamed(name)
	if err != nil {
		return err
	}
	// Never the key of the environment: it may be that of another platform.
	r.api.url, r.api.key, r.api.tenant = at.URL, cmp.Or(r.api.key, at.Key), cmp.Or(r.api.tenant, at.Tenant)
	return nil
}

func (r *remote) fromFolder() error {
	data := r.data
	if data == "" {
		var err error
		if data, err = dataFolder(r.p); err != nil {
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
	r.api.url = note.URL
	key := note.APIKey
	if r.admin || r.api.tenant != "" {
		key = note.AdminKey
	}
	r.api.key = cmp.Or(r.api.key, key)
	return nil
}

// ask makes a request and returns its answer.
func (r *remote) ask(ctx context.Context, method, path string, body any) (json.RawMessage, error) {
	if err := r.find(); err != nil {
		return nil, err
	}
	if r.ifMatch > 0 {
		r.headers = http.Header{"If-Match": {strconv.Quote(strconv.Itoa(r.ifMatch))}}
	}
	var answer json.RawMessage
	if err := r.api.callWith(ctx, method, path, r.headers, body, &answer); err != nil {
		return nil, err
	}
	return answer, nil
}

// show prints the answer to a request: as JSON, or as a table with one line for it.
func (r *remote) show(ctx context.Context, method, path string, body any, fields ...string) error {
	answer, err := r.ask(ctx, method, path, body)
	if err != nil {
		return err
	}
	return r.print(answer, fields...)
}

func (r *remote) print(answer json.RawMessage, fields ...string) error {
	if r.quiet {
		return r.printFirst([]json.RawMessage{answer}, fields...)
	}
	if r.output != "table" {
		return printJSON(r.p.stdout, answer)
	}
	var item map[string]any
	if err := decode(answer, &item); err != nil {
		return err
	}
	t := newTable(r.p.paint(), fields...)
	t.add(item)
	return t.write(r.p.stdout)
}

// list prints all pages of a list, but at most limit items when that is more than 0: a table with the fields named, or
// a JSON array of what the platform answered.
func (r *remote) list(ctx context.Context, path string, query url.Values, limit int, fields ...string) error {
	if err := r.find(); err != nil {
		return err
	}
	items := []json.RawMessage{}
	const page = 100
	for {
		size := page
		if limit > 0 {
			size = min(page, limit-len(items))
		}
		query.Set("limit", strconv.Itoa(size))
		var answer struct {
			Items  []json.RawMessage `json:"items"`
			Cursor string            `json:"next_cursor"`
			More   bool              `json:"has_more"`
		}
		if err := r.api.call(ctx, http.MethodGet, path+"?"+query.Encode(), nil, &answer); err != nil {
			return err
		}
		items = append(items, answer.Items...)
		if !answer.More || answer.Cursor == "" || limit > 0 && len(items) >= limit {
			return r.printList(items, fields...)
		}
		query.Set("cursor", answer.Cursor)
	}
}

func (r *remote) printList(items []json.RawMessage, fields ...string) error {
	if r.quiet {
		return r.printFirst(items, fields...)
	}
	if r.output == "json" {
		text, err := json.Marshal(items)
		if err != nil {
			return fmt.Errorf("write the list: %w", err)
		}
		return printJSON(r.p.stdout, text)
	}
	t := newTable(r.p.paint(), fields...)
	for _, raw := range items {
		var item map[string]any
		if err := decode(raw, &item); err != nil {
			return err
		}
		t.add(item)
	}
	return t.write(r.p.stdout)
}

// printFirst prints the first of the fields of each item: by which it is named elsewhere.
func (r *remote) printFirst(items []json.RawMessage, fields ...string) error {
	for _, raw := range items {
		var item map[string]any
		if err := decode(raw, &item); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(r.p.stdout, cell(item[fields[0]])); err != nil {
			return err
		}
	}
	return nil
}
