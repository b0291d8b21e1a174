package docs_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
)

// patience is for a machine that is busy with other things.
const patience = 90 * time.Second

var root = filepath.Join("..", "..")

// pages are the documentation: what stands at the root, in docs, and beside the examples.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"*.md", "docs/*.md", "docs/adr/*.md", "examples/*.md"} {
		list, err := filepath.Glob(filepath.Join(root, pattern))
		require.NoError(t, err)
		found = append(found, list...)
	}
	require.Greater(t, len(found), 15)
	return found
}

// block is a fenced block: what stands behind the fence, and in it.
type block struct {
	info, text string
	line       int
}

func blocks(t *testing.T, page string) []block {
	t.Helper()
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	var found []block
	var open *block
	for n, line := range strings.Split(string(raw), "\n") {
		info, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && open == nil:
			open = &block{info: info, line: n + 1}
		case fence:
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		}
	}
	require.Nil(t, open, "%s: a block does not end", page)
	return found
}

// Pages whose commands are run. A page that loses its last marked block is noticed.
var run = map[string]bool{
	"README.md": true, "docs/getting-started.md": true, "docs/cli.md": true, "docs/observability.md": true,
	"docs/operations.md": true, "docs/security.md": true, "docs/api.md": true,
}

// The marked blocks of each page, one after another in one shell, each page with a platform's tenant of its own.
func TestCommandsRun(t *testing.T) { //nolint:tparallel // pages share the platform: one may reconfigure what another asks for
	t.Parallel()
	p := platform.Start(t, platform.Options{})
	binary, err := platform.Binary()
	require.NoError(t, err)
	bin := t.TempDir()
	absolute, err := filepath.Abs(binary)
	require.NoError(t, err)
	require.NoError(t, os.Symlink(absolute, filepath.Join(bin, "agentflow")))
	top, err := filepath.Abs(root)
	require.NoError(t, err)

	found := map[string]bool{}
	for _, page := range pages(t) {
		name, err := filepath.Rel(root, page)
		require.NoError(t, err)
		var script strings.Builder
		for _, b := range blocks(t, page) {
			if b.info == "sh run" {
				fmt.Fprintf(&script, "echo '-- %s:%d' >&2\n%s", name, b.line, b.text)
			}
		}
		if script.Len() == 0 {
			continue
		}
		found[name] = true
		t.Run(name, func(t *testing.T) {
			work := t.TempDir()
			require.NoError(t, os.Symlink(filepath.Join(top, "examples"), filepath.Join(work, "examples")))
			text := strings.NewReplacer("http://127.0.0.1:8000", p.Ready().URL, "127.0.0.1:9090", p.Ready().AdminAddr, "bin/agentflow ", "agentflow ", "af_…", p.Ready().APIKey).
				Replace(script.String())
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
			cmd.Dir = work
			cmd.Env = []string{
				"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + work, "TMPDIR=" + work, "AGENTFLOW_DATA=" + p.Data(),
				"AGENTFLOW_EXAMPLE_KEY=" + p.Ready().APIKey, "AGENTFLOW_ADMIN_KEY=" + p.Ready().AdminKey,
			}
			out, err := cmd.CombinedOutput()
			require.NoError(t, err, "%s", out)
			require.NotContains(t, string(out), "urn:agentflow:problem", "curl does not fail, but the platform refused")
		})
	}
	require.Equal(t, run, found)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Links between pages lead to files, and to headings that are there.
func TestLinks(t *testing.T) {
	t.Parallel()
	for _, page := range pages(t) {
		raw, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(raw), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			file, section, _ := strings.Cut(m[1], "#")
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			require.True(t, exists(target), "%s links to %s", page, m[1])
			if section != "" {
				require.Contains(t, headings(t, target), section, "%s links to %s", page, m[1])
			}
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// headings of a page, as links spell them.
func headings(t *testing.T, page string) []string {
	t.Helper()
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	var found []string
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(raw), -1) {
		bare := regexp.MustCompile(`[^a-z0-9 _-]`).ReplaceAllString(strings.ToLower(h[1]), "")
		found = append(found, strings.ReplaceAll(bare, " ", "-"))
	}
	return found
}
