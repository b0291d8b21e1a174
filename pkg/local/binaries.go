package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// ErrNoPostgres says that no usable Postgres programs are on this machine.
var ErrNoPostgres = errors.New("no Postgres on this machine: install it (Debian: apt-get install postgresql; " +
	"macOS: brew install postgresql) or set DATABASE_URL")

// ErrNoRedis says that no redis-server is on this machine.
var ErrNoRedis = errors.New("no redis-server on this machine: install it (Debian: apt-get install redis-server; " +
	"macOS: brew install redis) or set REDIS_URL")

// programs is the folder that holds initdb and postgres.
type programs string

func (p programs) path(name string) string { return filepath.Join(string(p), name) }

// findPostgres takes the first complete set of programs in dirs. A cluster can only be opened by the major version that
// made it: major names that, or is empty for a new cluster.
func findPostgres(ctx context.Context, dirs []string, major string) (programs, error) {
	var seen []string
	for _, dir := range dirs {
		p := programs(dir)
		if !executable(p.path("initdb")) || !executable(p.path("postgres")) {
			continue
		}
		if major == "" {
			return p, nil
		}
		version, err := p.major(ctx)
		if err != nil {
			return "", err
		}
		if version == major {
			return p, nil
		}
		seen = append(seen, version)
	}
	if len(seen) > 0 {
		return "", fmt.Errorf("the cluster was made by Postgres %s, here is only %s: %w", major, strings.Join(seen, ", "), ErrNoPostgres)
	}
	return "", ErrNoPostgres
}

// postgresFolders are pg_config's, PATH's, and the usual ones, newest first.
func postgresFolders(ctx context.Context) []string {
	var dirs []string
	if out, err := exec.CommandContext(ctx, "pg_config", "--bindir").Output(); err == nil {
		dirs = append(dirs, strings.TrimSpace(string(out)))
	}
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	for _, pattern := range []string{
		"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin", "/usr/local/opt/postgresql@*/bin",
	} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			continue
		}
		slices.SortFunc(found, func(a, b string) int { return versionIn(b) - versionIn(a) })
		dirs = append(dirs, found...)
	}
	return dirs
}

// versionIn is the last number in a folder's name: 15 for /usr/lib/postgresql/15/bin.
func versionIn(path string) int {
	digits := strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	version, err := strconv.Atoi(digits[len(digits)-1])
	if err != nil {
		return 0
	}
	return version
}

// major asks the program for its version: "postgres (PostgreSQL) 15.18 (Debian …)" is 15.
func (p programs) major(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, p.path("postgres"), "--version").Output() //nolint:gosec // a program we looked up
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", p.path("postgres"), err)
	}
	_, version, _ := strings.Cut(string(out), ") ")
	major, _, _ := strings.Cut(version, ".")
	return strings.TrimSpace(major), nil
}

func findRedis() (string, error) {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", ErrNoRedis
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && !info.IsDir() && info.Mode()&0o111 != 0
}
