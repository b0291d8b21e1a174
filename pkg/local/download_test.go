package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"github.com/stretchr/testify/require"
)

// testdata/postgres.jar has the form of the real thing: a zip with one .txz, in which are bin/initdb, bin/pg_ctl and
// bin/postgres (scripts that fail) and share/.

func TestDownloadIsUnpackedOnce(t *testing.T) {
	repository, requests := serveJar(t, "")
	cache := t.TempDir()
	set := filepath.Join(cache, "postgres-set")

	require.NoError(t, unpackPostgres(t.Context(), repository, embeddedpostgres.V18, cache, set))
	for _, name := range []string{"initdb", "pg_ctl", "postgres"} {
		require.True(t, executable(filepath.Join(set, "bin", name)), name)
	}
	require.Positive(t, requests.Load())
	entries, err := os.ReadDir(cache)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no staging folder is left")

	// Another process was faster.
	require.NoError(t, unpackPostgres(t.Context(), repository, embeddedpostgres.V18, cache, set))
}

func TestDownloadWithAWrongChecksumIsRefused(t *testing.T) {
	repository, _ := serveJar(t, strings.Repeat("0", 64))
	cache := t.TempDir()
	set := filepath.Join(cache, "postgres-set")
	require.ErrorContains(t, unpackPostgres(t.Context(), repository, embeddedpostgres.V18, cache, set), "checksums do not match")
	require.NoDirExists(t, set)
}

func TestDownloadThatIsNotThere(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(server.Close)
	cache := t.TempDir()
	set := filepath.Join(cache, "postgres-set")
	require.ErrorContains(t, unpackPostgres(t.Context(), server.URL, embeddedpostgres.V18, cache, set), "no version found")
	require.NoDirExists(t, set)
}

func TestDownloadThatNeverEnds(t *testing.T) {
	arrived, release := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		close(arrived)
		<-release
	}))
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	cache := t.TempDir()
	set := filepath.Join(cache, "postgres-set")
	require.ErrorIs(t, unpackPostgres(ctx, server.URL, embeddedpostgres.V18, cache, set), context.Canceled)
	require.NoDirExists(t, set)
	close(release)
	server.Close()
}

func TestDownloadVersion(t *testing.T) {
	newest, ok := downloadVersion("")
	require.True(t, ok)
	require.Equal(t, embeddedpostgres.V18, newest)
	fifteen, ok := downloadVersion("15")
	require.True(t, ok)
	require.Equal(t, embeddedpostgres.V15, fifteen)
	_, ok = downloadVersion("1")
	require.False(t, ok)
}

func serveJar(t *testing.T, checksum string) (string, *atomic.Int64) {
	t.Helper()
	jar, err := os.ReadFile(filepath.Join("testdata", "postgres.jar"))
	require.NoError(t, err)
	if checksum == "" {
		sum := sha256.Sum256(jar)
		checksum = hex.EncodeToString(sum[:])
	}
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		answer := jar
		if strings.HasSuffix(r.URL.Path, ".sha256") {
			answer = []byte(checksum)
		}
		_, _ = w.Write(answer) // the client's failure shows on its side
	}))
	t.Cleanup(server.Close)
	return server.URL, &requests
}
