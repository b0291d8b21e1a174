package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestFindPostgres(t *testing.T) {
	fifteen, seventeen := fakePrograms(t, "15.18 (Debian 15.18-0+deb12u1)"), fakePrograms(t, "17.2")
	clientOnly := t.TempDir() // pg_config names such a folder where only libpq is installed

	for name, test := range map[string]struct {
		dirs  []string
		major string
		want  string
	}{
		"first complete set":        {dirs: []string{clientOnly, seventeen, fifteen}, want: seventeen},
		"the cluster's own version": {dirs: []string{seventeen, fifteen}, major: "15", want: fifteen},
	} {
		t.Run(name, func(t *testing.T) {
			found, err := findPostgres(t.Context(), test.dirs, test.major)
			require.NoError(t, err)
			require.Equal(t, programs(test.want), found)
		})
	}

	_, err := findPostgres(t.Context(), []string{clientOnly}, "")
	require.ErrorIs(t, err, ErrNoPostgres)
	require.ErrorContains(t, err, "apt-get install postgresql")

	_, err = findPostgres(t.Context(), []string{fifteen, seventeen}, "14")
	require.ErrorIs(t, err, ErrNoPostgres)
	require.ErrorContains(t, err, "made by Postgres 14, here is only 15, 17")
}

func TestVersionIn(t *testing.T) {
	require.Equal(t, 15, versionIn("/usr/lib/postgresql/15/bin"))
	require.Equal(t, 9, versionIn("/usr/pgsql-9/bin"))
	require.Zero(t, versionIn("/usr/bin"))
}

func fakePrograms(t *testing.T, version string) string {
	t.Helper()
	dir := t.TempDir()
	script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + "'\n"
	for _, name := range []string{"initdb", "postgres"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}
