package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

var workflowFields = []string{"id", "name", "status", "version", "updated_at"}

func newWorkflow(p *process) *cobra.Command {
	c := group("workflow", "Store, list, change and delete workflows", `The workflows that a tenant keeps.

  agentflow workflow create examples/router.json --status published
  agentflow workflow list
  agentflow workflow get WORKFLOW_ID --spec > router.json     the document alone, to change it and put it back
  agentflow workflow update WORKFLOW_ID --file router.json`+whichPlatform)
	c.Aliases = []string{"workflows"}
	c.AddCommand(newWorkflowList(p), newWorkflowGet(p), newWorkflowCreate(p), newWorkflowUpdate(p), newWorkflowDelete(p),
		newWorkflowVersions(p), newWorkflowStats(p))
	return c
}

func newWorkflowList(p *process) *cobra.Command {
	var r remote
	var status, search string
	var limit int
	c := &cobra.Command{
		Use: "list", Short: "List workflows, the newest first", Args: exactly(), Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, _ []string) error {
			return r.list(c.Context(), "/workflows", filters("status", status, "search", search), limit, workflowFields...)
		},
	}
	r.flags(c, p)
	c.Flags().StringVar(&status, "status", "", "draft, published, archived or deleted")
	c.Flags().StringVar(&search, "search", "", "part of the name or the description")
	c.Flags().IntVar(&limit, "limit", 0, "how many at most (default: all)")
	suggest(c, "status", func() []string { return []string{"draft", "published", "archived", "deleted"} })
	return c
}

// filters are the parts of a query that have a value.
func filters(pairs ...string) url.Values {
	query := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			query.Set(pairs[i], pairs[i+1])
		}
	}
	return query
}

func newWorkflowGet(p *process) *cobra.Command {
	var r remote
	var version int
	var spec bool
	c := &cobra.Command{
		Use: "get WORKFLOW_ID", Short: "Show a workflow", Args: exactly("WORKFLOW_ID"), Aliases: []string{"show"},
		RunE: func(c *cobra.Command, args []string) error {
			path := "/workflows/" + url.PathEscape(args[0])
			if version > 0 {
				path += "?version=" + strconv.Itoa(version)
			}
			if !spec {
				return r.show(c.Context(), http.MethodGet, path, nil, workflowFields...)
			}
			answer, err := r.ask(c.Context(), http.MethodGet, path, nil)
			if err != nil {
				return err
			}
			var w struct {
				Spec json.RawMessage `json:"spec"`
			}
			if err := decode(answer, &w); err != nil {
				return err
			}
			return printJSON(p.stdout, w.Spec)
		},
	}
	r.flags(c, p)
	c.Flags().IntVar(&version, "version", 0, "an older version (default: the current one)")
	c.Flags().BoolVar(&spec, "spec", false, "print the workflow document alone")
	c.ValidArgsFunction = suggestions(r.ids("/workflows"))
	return c
}

// workflowBody is what makes or changes a workflow; nil stays as it is.
type workflowBody struct {
	ID          string          `json:"id,omitempty"`
	Name        *string         `json:"name,omitempty"`
	Description *string         `json:"description,omitempty"`
	Status      *string         `json:"status,omitempty"`
	Spec        json.RawMessage `json:"spec,omitempty"`
}

// workflowFlags are what the command line says about a workflow besides its document.
type workflowFlags struct{ name, description, status string }

func (w *workflowFlags) flags(c *cobra.Command, states ...string) {
	c.Flags().StringVar(&w.name, "name", "", "name (default for a new one: that of the document)")
	c.Flags().StringVar(&w.description, "description", "", "description")
	c.Flags().StringVar(&w.status, "status", "", fmt.Sprint("one of ", states, " (default for a new one: draft)"))
	suggest(c, "status", func() []string { return states })
}

// body holds the flags that were given, empty texts too: they take away what was there.
func (w *workflowFlags) body(c *cobra.Command) workflowBody {
	var b workflowBody
	for _, one := range []struct {
		flag  string
		value *string
		field **string
	}{{"name", &w.name, &b.Name}, {"description", &w.description, &b.Description}, {"status", &w.status, &b.Status}} {
		if c.Flags().Changed(one.flag) {
			*one.field = one.value
		}
	}
	return b
}

func newWorkflowCreate(p *process) *cobra.Command {
	var r remote
	var about workflowFlags
	var id string
	c := &cobra.Command{
		Use: "create FILE", Short: "Store a workflow file (- is stdin)", Args: exactly("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			body := about.body(c)
			body.ID = id
			var err error
			if body.Spec, err = readJSON(p, args[0]); err != nil {
				return err
			}
			return r.show(c.Context(), http.MethodPost, "/workflows", body, workflowFields...)
		},
	}
	r.flags(c, p)
	about.flags(c, "draft", "published")
	c.Flags().StringVar(&id, "id", "", "wf_… id (default: one is made)")
	return c
}

// readJSON reads a file that must hold JSON, or stdin for -.
func readJSON(p *process, name string) (json.RawMessage, error) {
	doc, err := readFile(p, name)
	if err != nil {
		return nil, err
	}
	if !json.Valid(doc) {
		return nil, fmt.Errorf("%s is not JSON; agentflow validate %[1]s says where", name)
	}
	return doc, nil
}

func newWorkflowUpdate(p *process) *cobra.Command {
	var r remote
	var about workflowFlags
	var file string
	c := &cobra.Command{
		Use: "update WORKFLOW_ID", Short: "Make a new version of a workflow; what is left out stays as it is", Args: exactly("WORKFLOW_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			body := about.body(c)
			if file != "" {
				var err error
				if body.Spec, err = readJSON(p, file); err != nil {
					return err
				}
			} else if body.Name == nil && body.Description == nil && body.Status == nil {
				return &usageError{c.CommandPath(), errors.New("nothing to change: give --file, --name, --description or --status")}
			}
			return r.show(c.Context(), http.MethodPut, "/workflows/"+url.PathEscape(args[0]), body, workflowFields...)
		},
	}
	r.flags(c, p)
	r.ifMatchFlag(c)
	about.flags(c, "draft", "published", "archived")
	c.Flags().StringVar(&file, "file", "", "workflow file that replaces the document (- is stdin)")
	c.ValidArgsFunction = suggestions(r.ids("/workflows"))
	return c
}

func newWorkflowDelete(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "delete WORKFLOW_ID", Short: "Delete a workflow; refused while executions of it are under way", Args: exactly("WORKFLOW_ID"),
		Aliases: []string{"rm"},
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodDelete, "/workflows/"+url.PathEscape(args[0]), nil, workflowFields...)
		},
	}
	r.flags(c, p)
	r.ifMatchFlag(c)
	c.ValidArgsFunction = suggestions(r.ids("/workflows"))
	return c
}

func newWorkflowVersions(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "versions WORKFLOW_ID", Short: "List the versions of a workflow", Args: exactly("WORKFLOW_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			return r.list(c.Context(), "/workflows/"+url.PathEscape(args[0])+"/versions", url.Values{}, 0,
				"version", "name", "status", "created_at", "created_by")
		},
	}
	r.flags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/workflows"))
	return c
}

func newWorkflowStats(p *process) *cobra.Command {
	var r remote
	var span timeFlags
	c := &cobra.Command{
		Use: "stats WORKFLOW_ID", Short: "Sum up the executions of a workflow", Args: exactly("WORKFLOW_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			query := url.Values{}
			if err := span.into(query); err != nil {
				return &usageError{c.CommandPath(), err}
			}
			return r.show(c.Context(), http.MethodGet, "/workflows/"+url.PathEscape(args[0])+"/stats?"+query.Encode(), nil,
				"total", "by_status", "success_rate", "p50_duration_ms", "p95_duration_ms", "tokens_used", "cost")
		},
	}
	r.flags(c, p)
	span.flags(c)
	c.ValidArgsFunction = suggestions(r.ids("/workflows"))
	return c
}
