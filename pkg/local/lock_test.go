package local_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
)

func TestLockDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "folder")
	lock, err := local.LockDir(dir)
	require.NoError(t, err)

	_, err = local.LockDir(dir)
	var locked *local.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, local.LockedError{Dir: dir, PID: os.Getpid()}, *locked)

	require.NoError(t, lock.Unlock())
	require.NoError(t, lock.Unlock(), "a second time")
	again, err := local.LockDir(dir)
	require.NoError(t, err)
	require.NoError(t, again.Unlock())
}

func TestLockDirWithoutPermission(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err := local.LockDir(file)
	require.Error(t, err)
	var locked *local.LockedError
	require.NotErrorAs(t, err, &locked)
}
