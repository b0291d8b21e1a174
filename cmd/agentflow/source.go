package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

var (
	sourceFields = []string{"id", "kind", "name", "status", "version", "updated_at"}
	sourceKinds  = []string{"llm", "image", "db", "api"}
)

func newSource(p *process) *cobra.Command {
	c := group("source", "Keep, list, try, change and delete sources", `The sources that a tenant keeps, for every workflow that names them. A config names environment variables of the
executor and never holds a secret.

  agentflow source create model --kind llm --config '{"provider":"openai","model":"gpt-4o-mini","api_key_env":"OPENAI_API_KEY"}'
  agentflow source test model`+whichPlatform)
	c.Aliases = []string{"sources"}
	c.AddCommand(newSourceList(p), newSourceGet(p), newSourceCreate(p), newSourceUpdate(p), newSourceDelete(p), newSourceTest(p))
	return c
}

func newSourceList(p *process) *cobra.Command {
	var r remote
	var kind string
	c := &cobra.Command{
		Use: "list", Short: "List the sources", Args: exactly(), Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, _ []string) error {
			return r.list(c.Context(), "/sources", filters("kind", kind), 0, sourceFields...)
		},
	}
	r.flags(c, p)
	c.Flags().StringVar(&kind, "kind", "", "only those of a kind: llm, image, db or api")
	suggest(c, "kind", func() []string { return sourceKinds })
	return c
}

func newSourceGet(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "get SOURCE_ID", Short: "Show a source, its secrets masked", Args: exactly("SOURCE_ID"), Aliases: []string{"show"},
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodGet, "/sources/"+url.PathEscape(args[0]), nil, sourceFields...)
		},
	}
	r.flags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/sources"))
	return c
}

// sourceBody is what makes or changes a source.
type sourceBody struct {
	ID     string          `json:"id,omitempty"`
	Name   string          `json:"name,omitempty"`
	Kind   string          `json:"kind,omitempty"`
	Config json.RawMessage `json:"config,omitempty"`
}

type sourceFlags struct{ name, kind, config string }

func (s *sourceFlags) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.name, "name", "", "name for people")
	c.Flags().StringVar(&s.kind, "kind", "", "llm, image, db or api")
	c.Flags().StringVar(&s.config, "config", "", "configuration, a JSON object; @FILE reads it from a file")
	suggest(c, "kind", func() []string { return sourceKinds })
}

func (s *sourceFlags) body(c *cobra.Command, p *process) (sourceBody, error) {
	b := sourceBody{Name: s.name, Kind: s.kind}
	if s.config == "" {
		return b, nil
	}
	text := []byte(s.config)
	if file, ok := strings.CutPrefix(s.config, "@"); ok {
		var err error
		if text, err = readFile(p, file); err != nil {
			return b, err
		}
	}
	var object map[string]json.RawMessage
	if err := json.Unmarshal(text, &object); err != nil || object == nil {
		return b, &usageError{c.CommandPath(), errors.New(`--config must be a JSON object such as {"provider":"openai"}`)}
	}
	b.Config = text
	return b, nil
}

func newSourceCreate(p *process) *cobra.Command {
	var r remote
	var about sourceFlags
	c := &cobra.Command{
		Use: "create SOURCE_ID", Short: "Keep a source under the id by which workflows name it", Args: exactly("SOURCE_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := about.body(c, p)
			if err != nil {
				return err
			}
			if body.Kind == "" || body.Config == nil {
				return &usageError{c.CommandPath(), fmt.Errorf("--kind and --config are needed; kinds are %s", strings.Join(sourceKinds, ", "))}
			}
			body.ID = args[0]
			return r.show(c.Context(), http.MethodPost, "/sources", body, sourceFields...)
		},
	}
	r.flags(c, p)
	about.flags(c)
	return c
}

func newSourceUpdate(p *process) *cobra.Command {
	var r remote
	var about sourceFlags
	c := &cobra.Command{
		Use: "update SOURCE_ID", Short: "Change a source; what is left out stays as it is", Args: exactly("SOURCE_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			body, err := about.body(c, p)
			if err != nil {
				return err
			}
			if body.Name == "" && body.Kind == "" && body.Config == nil {
				return &usageError{c.CommandPath(), errors.New("nothing to change: give --name, --kind or --config")}
			}
			return r.show(c.Context(), http.MethodPut, "/sources/"+url.PathEscape(args[0]), body, sourceFields...)
		},
	}
	r.flags(c, p)
	r.ifMatchFlag(c)
	about.flags(c)
	c.ValidArgsFunction = suggestions(r.ids("/sources"))
	return c
}

func newSourceDelete(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "delete SOURCE_ID", Short: "Delete a source; refused while a workflow uses it", Args: exactly("SOURCE_ID"), Aliases: []string{"rm"},
		RunE: func(c *cobra.Command, args []string) error {
			return r.show(c.Context(), http.MethodDelete, "/sources/"+url.PathEscape(args[0]), nil, sourceFields...)
		},
	}
	r.flags(c, p)
	r.ifMatchFlag(c)
	c.ValidArgsFunction = suggestions(r.ids("/sources"))
	return c
}

// newSourceTest fails when the source cannot be reached, so that scripts can ask.
func newSourceTest(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "test SOURCE_ID", Short: "Reach out to a source once; exit code 1 when it cannot be reached", Args: exactly("SOURCE_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			answer, err := r.ask(c.Context(), http.MethodPost, "/sources/"+url.PathEscape(args[0])+"/test", nil)
			if err != nil {
				return err
			}
			if err := r.print(answer, "source_id", "kind", "connected", "message"); err != nil {
				return err
			}
			var result struct {
				Connected bool `json:"connected"`
			}
			if err := decode(answer, &result); err != nil {
				return err
			}
			if !result.Connected {
				return errSaid
			}
			return nil
		},
	}
	r.flags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/sources"))
	return c
}
