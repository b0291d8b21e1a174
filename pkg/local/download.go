package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
	"go.uber.org/zap"
)

const downloadPatience = 5 * time.Minute

// mavenCentral stands for the library's own choice of repository.
const mavenCentral = ""

// downloads are the sets we know of, by major version; a new cluster gets the first.
var downloads = []embeddedpostgres.PostgresVersion{
	embeddedpostgres.V18, embeddedpostgres.V17, embeddedpostgres.V16, embeddedpostgres.V15,
}

// downloadPostgres fetches a set of programs into the machine's cache and returns it, or returns the one that is there.
func downloadPostgres(ctx context.Context, log *zap.Logger, repository, major string) (programs, error) {
	version, ok := downloadVersion(major)
	if !ok {
		return "", fmt.Errorf("no download for Postgres %s: %w", major, ErrNoPostgres)
	}
	cache, err := downloadCache()
	if err != nil {
		return "", err
	}
	set := filepath.Join(cache, fmt.Sprintf("postgres-%s-%s-%s", version, runtime.GOOS, runtime.GOARCH))
	found := programs(filepath.Join(set, "bin"))
	if executable(found.path("postgres")) {
		return found, nil
	}
	log.Warn("no Postgres on this machine: downloading one", zap.String("version", string(version)), zap.String("to", set))
	ctx, cancel := context.WithTimeoutCause(ctx, downloadPatience, fmt.Errorf("no end after %s", downloadPatience))
	defer cancel()
	if err := unpackPostgres(ctx, repository, version, cache, set); err != nil {
		return "", fmt.Errorf("download postgres %s: %w (%w)", version, err, ErrNoPostgres)
	}
	log.Info("downloaded Postgres", zap.String("to", set))
	return found, nil
}

func downloadVersion(major string) (embeddedpostgres.PostgresVersion, bool) {
	for _, version := range downloads {
		if major == "" || strings.HasPrefix(string(version), major+".") {
			return version, true
		}
	}
	return "", false
}

// downloadCache is outside the data folder, for root in a place that the account which runs Postgres can enter.
func downloadCache() (string, error) {
	cache := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		if cache, err = os.UserCacheDir(); err != nil {
			return "", fmt.Errorf("find a place for the download: %w", err)
		}
	}
	cache = filepath.Join(cache, "agentflow")
	return cache, os.MkdirAll(cache, 0o755) //nolint:gosec // another user must be able to run what is in it
}

// unpackPostgres fetches and unpacks beside the set's place and moves it there when it is whole.
func unpackPostgres(ctx context.Context, repository string, version embeddedpostgres.PostgresVersion, cache, set string) error {
	staging, err := os.MkdirTemp(cache, "unpack-")
	if err != nil {
		return err
	}
	// The library can only fetch, unpack, make a cluster and start it, in one call that nothing interrupts. It is
	// stopped after unpacking by an encoding that initdb refuses; success is that the programs are there.
	config := embeddedpostgres.DefaultConfig().Version(version).Encoding("none").Logger(io.Discard).
		CachePath(filepath.Join(staging, "archive")).
		RuntimePath(filepath.Join(staging, "run")).
		BinariesPath(filepath.Join(staging, "set"))
	if repository != mavenCentral {
		config = config.BinaryRepositoryURL(repository)
	}
	port, err := FreePort(ctx)
	if err != nil {
		return errors.Join(err, os.RemoveAll(staging))
	}
	config = config.Port(uint32(port)) //nolint:gosec // a port
	done := make(chan error, 1)
	go func() { done <- embeddedpostgres.NewDatabase(config).Start() }()
	select {
	case err = <-done:
		http.DefaultClient.CloseIdleConnections() //nolint:forbidigo // the library uses it; nothing else will come from there
	case <-ctx.Done():
		return context.Cause(ctx) // the library's goroutine, and the staging folder, are given up with the process
	}
	unpacked := filepath.Join(staging, "set")
	if !executable(filepath.Join(unpacked, "bin", "postgres")) {
		return errors.Join(err, os.RemoveAll(staging))
	}
	err = os.Rename(unpacked, set)
	if executable(filepath.Join(set, "bin", "postgres")) {
		err = nil // ours, or that of another process which was faster
	}
	return errors.Join(err, os.RemoveAll(staging))
}
