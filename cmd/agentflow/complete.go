package main

import (
	"context"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/watch"
)

// suggestions completes the first argument of a command.
func suggestions(list func() []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return list(), cobra.ShellCompDirectiveNoFileComp
	}
}

// suggest completes the value of a flag.
func suggest(c *cobra.Command, flag string, list func() []string) {
	err := c.RegisterFlagCompletionFunc(flag, func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return list(), cobra.ShellCompDirectiveNoFileComp
	})
	if err != nil {
		panic(err) // the flag is not defined: a slip in this program
	}
}

// completionWait is how long a shell may hang on Tab.
const completionWait = 2 * time.Second

// ids are those of the newest things in a list, with their names: for completion, so errors are silence.
func (r *remote) ids(path string) func() []string {
	return func() []string {
		if r.find() != nil {
			return nil
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionWait)
		defer cancel()
		var page struct {
			Items []struct {
				ID     string `json:"id"`
				Name   string `json:"name"`
				Status string `json:"status"`
			} `json:"items"`
		}
		if r.api.call(ctx, http.MethodGet, path, nil, &page) != nil {
			return nil
		}
		found := make([]string, 0, len(page.Items))
		for _, item := range page.Items {
			about := item.Name
			if about == "" {
				about = item.Status
			}
			found = append(found, cobra.CompletionWithDesc(item.ID, watch.Harmless(about)))
		}
		return found
	}
}
