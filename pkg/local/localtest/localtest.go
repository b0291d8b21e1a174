// Package localtest gives tests a real Postgres and a real Redis.
//
// The first test that asks starts one of each for the whole test process, on scratch data that is never synced; each
// test gets a database of its own in it. The servers die with the process, however it ends. No TestMain is needed.
// A package that looks for leaked goroutines uses [VerifyTestMain], which stops the servers first.
//
// AGENTFLOW_TEST_DATABASE_URL and AGENTFLOW_TEST_REDIS_URL name servers to use instead of [Postgres]'s and [Redis]'s
// own; what the numbered databases of that Redis hold is lost. A missing server fails the test, it never skips.
package localtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/agentflow/agentflow/pkg/leaktest"
	"github.com/agentflow/agentflow/pkg/local"
)

const patience = time.Minute

// PostgresServer is a cluster of the test's own, which it may kill and restart.
func PostgresServer(tb testing.TB) *local.Postgres {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	dir, err := scratch(ctx)
	if err != nil {
		tb.Fatalf("a folder for Postgres: %v", err)
	}
	tb.Cleanup(func() { remove(tb, dir) })
	options := postgresOptions(dir)
	options.Log = zaptest.NewLogger(tb)
	server, err := local.StartPostgres(ctx, options)
	if err != nil {
		tb.Fatal(err)
	}
	stopAtEnd(tb, server)
	return server
}

// RedisServer is a Redis of the test's own, which it may kill, suspend and restart.
func RedisServer(tb testing.TB) *local.Redis {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	dir, err := scratch(ctx)
	if err != nil {
		tb.Fatalf("a folder for Redis: %v", err)
	}
	tb.Cleanup(func() { remove(tb, dir) })
	server, err := local.StartRedis(ctx, local.RedisOptions{Dir: dir.path, Log: zaptest.NewLogger(tb), Databases: redisDatabases})
	if err != nil {
		tb.Fatal(err)
	}
	stopAtEnd(tb, server)
	return server
}

type stopper interface {
	Stop(ctx context.Context) error
}

func stopAtEnd(tb testing.TB, server stopper) {
	tb.Helper()
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		if err := server.Stop(ctx); err != nil {
			tb.Error(err)
		}
	})
}

func postgresOptions(dir folder) local.PostgresOptions {
	return local.PostgresOptions{Dir: dir.path, Fast: true, Template: filepath.Join(root(), "template")}
}

// folder is a scratch folder. Its lock tells other processes that its owner lives.
type folder struct {
	path string
	lock *local.DirLock
}

// root holds the scratch folders of one user's test processes.
func root() string {
	return filepath.Join(os.TempDir(), "agentflow-test-"+strconv.Itoa(os.Geteuid()))
}

// scratch makes a folder, and removes those whose owner has died: nobody cleans up after kill -9.
func scratch(ctx context.Context) (folder, error) {
	base := filepath.Join(root(), "run")
	if err := os.MkdirAll(base, 0o700); err != nil {
		return folder{}, err
	}
	// The lock covers the moment in which a new folder is not locked yet and would pass for an orphan.
	gate, err := waitForLock(ctx, base)
	if err != nil {
		return folder{}, err
	}
	entries, err := os.ReadDir(base)
	if err != nil {
		return folder{}, errors.Join(err, gate.Unlock())
	}
	for _, entry := range entries {
		if entry.IsDir() {
			sweep(filepath.Join(base, entry.Name()))
		}
	}
	path, err := os.MkdirTemp(base, fmt.Sprintf("%d-", os.Getpid()))
	if err != nil {
		return folder{}, errors.Join(err, gate.Unlock())
	}
	lock, err := local.LockDir(path)
	return folder{path: filepath.Join(path, "server"), lock: lock}, errors.Join(err, gate.Unlock())
}

// sweep removes a folder without an owner. What cannot be removed now is left for the next one.
func sweep(path string) {
	lock, err := local.LockDir(path)
	if err != nil {
		return
	}
	_ = errors.Join(os.RemoveAll(path), lock.Unlock())
}

func waitForLock(ctx context.Context, dir string) (*local.DirLock, error) {
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		lock, err := local.LockDir(dir)
		var locked *local.LockedError
		if !errors.As(err, &locked) {
			return lock, err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		}
	}
}

func (f folder) remove() error {
	return errors.Join(os.RemoveAll(filepath.Dir(f.path)), f.lock.Unlock())
}

func remove(tb testing.TB, f folder) {
	tb.Helper()
	if err := f.remove(); err != nil {
		tb.Errorf("remove the scratch folder: %v", err)
	}
}

// shared is what the test process has started for all its tests.
var shared struct {
	mu      sync.Mutex
	servers []stopper
	folders []folder
}

func share(server stopper, dir folder) {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	shared.servers = append(shared.servers, server)
	shared.folders = append(shared.folders, dir)
}

func stopShared(ctx context.Context) error {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	var err error
	for i, server := range shared.servers {
		err = errors.Join(err, server.Stop(ctx), shared.folders[i].remove())
	}
	shared.servers, shared.folders = nil, nil
	return err
}

// VerifyTestMain is [leaktest.VerifyTestMain] for packages that use this one: it runs the tests, stops the shared servers
// and then looks for goroutines that were left behind.
func VerifyTestMain(m *testing.M) { leaktest.VerifyTestMain(thenStop{m}) }

type thenStop struct{ tests *testing.M }

func (t thenStop) Run() int {
	code := t.tests.Run()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := stopShared(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "stop the shared servers:", err)
		return max(code, 1)
	}
	return code
}
