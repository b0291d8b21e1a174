package main

import (
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Contexts are kept in one file, in the first of the places that are documented.
func TestContextFile(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env  string // ~ stands for a folder of the test's own
		want string // below that folder; "" for none
	}{
		"by its name":         {"AGENTFLOW_CONFIG=~/mine/contexts XDG_CONFIG_HOME=~/xdg HOME=~/home", "mine/contexts"},
		"XDG":                 {"XDG_CONFIG_HOME=~/xdg HOME=~/home", "xdg/agentflow/config.json"},
		"XDG without a home":  {"XDG_CONFIG_HOME=~/xdg HOME=", "xdg/agentflow/config.json"},
		"home":                {"HOME=~/home", "home/.config/agentflow/config.json"},
		"empty is not set":    {"AGENTFLOW_CONFIG= XDG_CONFIG_HOME= HOME=~/home", "home/.config/agentflow/config.json"},
		"a relative XDG path": {"XDG_CONFIG_HOME=xdg HOME=~/home", "home/.config/agentflow/config.json"}, // its specification says to ignore it
		"nowhere":             {"HOME=", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			env := strings.Fields(strings.ReplaceAll(c.env, "~", root))
			set := ended(t, env, "context", "set", "here", "--url", "http://127.0.0.1:1")
			var found []string
			require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
				if err == nil && !d.IsDir() {
					found = append(found, strings.TrimPrefix(path, root+"/"))
				}
				return err
			}))
			if c.want == "" {
				require.Equal(t, exitFailed, set.code)
				require.Contains(t, set.stderr, "set AGENTFLOW_CONFIG to a file")
				require.Empty(t, found)
				return
			}
			require.Equal(t, exitOK, set.code, set.stderr)
			require.Equal(t, []string{c.want}, found)
			list := ended(t, env, "context", "list")
			require.Equal(t, exitOK, list.code, list.stderr)
			require.Contains(t, list.stdout, "here")
		})
	}
}
