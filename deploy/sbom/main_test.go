package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBinary reads a binary of which it is known what is in it. It is built twice, in the way of a release, and the
// second time from another folder: the bytes are the same.
func TestBinary(t *testing.T) {
	t.Parallel()
	binary, again := build(t, "."), build(t, "..")
	one, err := os.ReadFile(binary)
	require.NoError(t, err)
	two, err := os.ReadFile(again)
	require.NoError(t, err)
	require.True(t, bytes.Equal(one, two), "a build can be repeated")
	var first, second bytes.Buffer
	require.NoError(t, run([]string{binary}, &first))
	require.NoError(t, run([]string{binary}, &second))
	require.Equal(t, first.String(), second.String())
	var d document
	require.NoError(t, json.Unmarshal(first.Bytes(), &d))
	require.Equal(t, "CycloneDX", d.Format)
	refs := map[string]bool{}
	for _, c := range d.Parts {
		require.False(t, refs[c.Ref], "%s stands there twice", c.Ref)
		refs[c.Ref] = true
	}
	require.Contains(t, refs, "github.com/nats-io/nkeys@v0.4.16")
	require.Error(t, run([]string{"/etc/hostname"}, &first), "not a Go binary")
	require.Error(t, run(nil, &first))
}

func build(t *testing.T, from string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "credentials")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", binary, "github.com/agentflow/agentflow/deploy/credentials")
	cmd.Dir, cmd.Env = from, append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return binary
}
