package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPasswordIsMadeOnceAndNeverReplaced(t *testing.T) {
	dir := t.TempDir()
	first, err := password(dir)
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(first), 26)
	second, err := password(dir)
	require.NoError(t, err)
	require.Equal(t, first, second)
	other, err := password(t.TempDir())
	require.NoError(t, err)
	require.NotEqual(t, first, other)

	// A new one would not open the old cluster.
	require.NoError(t, os.WriteFile(filepath.Join(dir, "password"), nil, 0o600))
	_, err = password(dir)
	require.ErrorContains(t, err, "password is lost")
}

func TestRememberedPort(t *testing.T) {
	dir := t.TempDir()
	require.Zero(t, rememberedPort(dir))
	require.NoError(t, rememberPort(dir, 15432))
	require.Equal(t, 15432, rememberedPort(dir))
	for _, text := range []string{"", "0", "-5", "70000", "port"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, "port"), []byte(text), 0o600))
		require.Zero(t, rememberedPort(dir), text)
	}
}

func TestChildrenDoNotSeeOurSecrets(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "secret")
	t.Setenv("PGOPTIONS", "-c fsync=off")
	t.Setenv("PATH", "/somewhere")
	env := environment()
	require.Contains(t, env, "PATH=/somewhere")
	for _, setting := range env {
		require.NotContains(t, setting, "secret")
		require.NotContains(t, setting, "PGOPTIONS")
	}
}
