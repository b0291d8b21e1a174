package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
)

func newContext(p *process) *cobra.Command {
	c := group("context", "Keep platforms and keys by name", `Contexts keep the address and the key of platforms by name, in a file that only you can read:
AGENTFLOW_CONFIG, else $XDG_CONFIG_HOME/agentflow/config.json, else ~/.config/agentflow/config.json.

  agentflow context set prod --url https://agentflow.example.com --key -     reads the key from stdin
  agentflow context use prod`)
	c.Aliases = []string{"contexts"}
	c.AddCommand(newContextSet(p), newContextUse(p), newContextList(p), newContextDelete(p))
	return c
}

func newContextSet(p *process) *cobra.Command {
	var at placement
	var use bool
	c := &cobra.Command{
		Use: "set NAME", Short: "Add or change a context; what is left out stays as it is", Args: exactly("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			name := args[0]
			if name == "" || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
				return &usageError{c.CommandPath(), fmt.Errorf("%q is no name: it must have no spaces", name)}
			}
			kept, err := p.contexts()
			if err != nil {
				return err
			}
			key, err := keyFrom(p, at.Key)
			if err != nil {
				return err
			}
			before := kept.Contexts[name]
			next := client{url: cmp.Or(at.URL, before.URL)}
			if next.url == "" {
				return &usageError{c.CommandPath(), errors.New("--url is missing")}
			}
			if err := next.checkURL(c.CommandPath()); err != nil {
				return err
			}
			changed := placement{URL: next.url, Key: cmp.Or(key, before.Key), Tenant: cmp.Or(at.Tenant, before.Tenant)}
			if before.URL != "" && before.URL != changed.URL && key == "" {
				changed.Key = "" // a key belongs to a platform: another one must not be shown it
			}
			kept.Contexts[name] = changed
			if use || kept.Current == "" {
				kept.Current = name
			}
			return p.keepContexts(kept)
		},
	}
	c.Flags().StringVar(&at.URL, "url", "", "address of the platform")
	c.Flags().StringVar(&at.Key, "key", "", "API key; - reads it from stdin, so that it stands in no history")
	c.Flags().StringVar(&at.Tenant, "tenant", "", "tenant to act for, when the key is the admin key")
	c.Flags().BoolVar(&use, "use", false, "make it the current one, as the first one is anyway")
	return c
}

// keyFrom is a key from the command line, or the first line of stdin for -.
func keyFrom(p *process, given string) (string, error) {
	if given != "-" {
		return given, nil
	}
	const longest = 4 << 10
	line, err := bufio.NewReader(io.LimitReader(p.stdin, longest)).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the key: %w", err)
	}
	if line = strings.TrimSpace(line); line == "" {
		return "", errors.New("there is no key on stdin")
	}
	return line, nil
}

func newContextUse(p *process) *cobra.Command {
	return &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: exactly("NAME"),
		ValidArgsFunction: suggestions(p.contextNames),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := p.contextNamed(args[0]); err != nil {
				return err
			}
			kept, err := p.contexts()
			if err != nil {
				return err
			}
			kept.Current = args[0]
			return p.keepContexts(kept)
		},
	}
}

func newContextDelete(p *process) *cobra.Command {
	return &cobra.Command{
		Use: "delete NAME", Short: "Forget a context", Args: exactly("NAME"), Aliases: []string{"rm"},
		ValidArgsFunction: suggestions(p.contextNames),
		RunE: func(_ *cobra.Command, args []string) error {
			if _, err := p.contextNamed(args[0]); err != nil {
				return err
			}
			kept, err := p.contexts()
			if err != nil {
				return err
			}
			delete(kept.Contexts, args[0])
			if kept.Current == args[0] {
				kept.Current = ""
			}
			return p.keepContexts(kept)
		},
	}
}

// newContextList shows contexts without their keys.
func newContextList(p *process) *cobra.Command {
	r := remote{p: p}
	c := &cobra.Command{
		Use: "list", Short: "List the contexts; keys are not shown", Args: exactly(), Aliases: []string{"ls"},
		RunE: func(c *cobra.Command, _ []string) error {
			if r.output != "" && r.output != "json" && r.output != "table" {
				return &usageError{c.CommandPath(), fmt.Errorf("--output is json or table, not %q", r.output)}
			}
			kept, err := p.contexts()
			if err != nil {
				return err
			}
			items := []json.RawMessage{}
			for _, name := range p.contextNames() {
				at := kept.Contexts[name]
				item, err := json.Marshal(map[string]any{
					"name": name, "url": at.URL, "tenant": at.Tenant, "has_key": at.Key != "", "current": name == kept.Current,
				})
				if err != nil {
					return fmt.Errorf("write the list: %w", err)
				}
				items = append(items, item)
			}
			return r.printList(items, "name", "url", "tenant", "has_key", "current")
		},
	}
	c.Flags().StringVarP(&r.output, "output", "o", "", "json or table (default table)")
	return c
}
