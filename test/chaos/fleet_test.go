package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/test/platform"
)

// ackWait is short, so that much is taken over in little time.
const ackWait = 2 * time.Second

// fleet is the whole platform.
type fleet struct {
	tb        testing.TB
	nats      *program
	postgres  *local.Postgres
	redis     *local.Redis
	gateway   *program
	catalog   *program
	limiter   *program
	executors []*program
	url, nurl string
	key       string
	client    *http.Client

	mu     sync.Mutex
	pauses []pause
	counts map[string]int
}

// pause is a time in which an executor was suspended. It went on at some moment from resumed to running.
type pause struct{ from, resumed, running time.Time }

// startFleet runs one of each service and three executors, all with more of an environment.
func startFleet(tb testing.TB, env ...string) *fleet {
	tb.Helper()
	_, err := binaries()
	require.NoError(tb, err)
	f := &fleet{tb: tb, counts: map[string]int{}, client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 16}}}
	tb.Cleanup(f.client.CloseIdleConnections)
	f.postgres, f.redis = durablePostgres(tb), localtest.RedisServer(tb)
	f.nats, f.nurl = startNATS(tb)
	run := func(name, number string, own ...string) *program {
		return service(tb, name, number, slices.Concat([]string{"NATS_URL=" + f.nurl}, env, own)...)
	}
	f.catalog = run("catalog", "", "DATABASE_URL="+f.postgres.URL(), "DB_POOL_SIZE=8", "DB_MAX_OVERFLOW=0", "DB_POOL_TIMEOUT=5")
	f.limiter = run("limiter", "", "REDIS_URL="+f.redis.URL())
	for i := range 3 {
		f.executors = append(f.executors, executor(tb, "-"+strconv.Itoa(i), f.nurl, ackWait, append(env, "EXECUTOR_MAX_TAKEOVERS=1000", "EXECUTOR_DRAIN_SECONDS=0.5")...))
	}
	address := freeAddress(tb)
	f.url = "http://" + address
	f.gateway = run("gateway", "", "HTTP_ADDR="+address, "AGENTFLOW_ADMIN_KEY="+adminKey, "SHUTDOWN_TIMEOUT_SECONDS=5")
	f.awaitReady()
	f.found()
	return f
}

// durablePostgres is a cluster that loses nothing when it is killed. Those of other tests gain speed by doing without.
func durablePostgres(tb testing.TB) *local.Postgres {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	server, err := local.StartPostgres(ctx, local.PostgresOptions{
		Dir: filepath.Join(tb.TempDir(), "postgres"),
		//nolint:usetesting // the folder that all test processes share
		Template: filepath.Join(os.TempDir(), "agentflow-test-"+strconv.Itoa(os.Geteuid()), "template"),
	})
	require.NoError(tb, err)
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		require.NoError(tb, server.Stop(ctx))
	})
	return server
}

func (f *fleet) services() []*program {
	return append([]*program{f.gateway, f.catalog, f.limiter}, f.executors...)
}

func (f *fleet) awaitReady() {
	f.tb.Helper()
	for _, p := range f.services() {
		platform.Await(f.tb, p.Name, p.ready)
	}
}

// found makes the tenant and its key.
func (f *fleet) found() {
	f.tb.Helper()
	f.key = adminKey
	status, body, err := f.call(http.MethodPost, "/tenants", []byte(`{"id":"acme","name":"acme"}`))
	require.NoError(f.tb, err)
	require.Equal(f.tb, http.StatusCreated, status, "%s", body)
	status, body, err = f.call(http.MethodPost, "/keys", []byte(`{"name":"all","tenant_id":"acme"}`))
	require.NoError(f.tb, err)
	require.Equal(f.tb, http.StatusCreated, status, "%s", body)
	var made struct{ Key string }
	require.NoError(f.tb, json.Unmarshal(body, &made))
	f.key = made.Key
	platform.Await(f.tb, "the key", func() bool {
		status, _, err := f.call(http.MethodGet, "/executions", nil)
		return err == nil && status == http.StatusOK
	})
}

// call makes a request; headers are name, value, …
func (f *fleet) call(method, path string, body []byte, headers ...string) (int, []byte, error) {
	status, _, got, err := f.exchange(method, path, body, headers...)
	return status, got, err
}

func (f *fleet) exchange(method, path string, body []byte, headers ...string) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(f.tb.Context(), method, f.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, nil, err
	}
	req.Header.Set("X-API-Key", f.key)
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	got, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, got, err
}

func (f *fleet) count(what string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.counts[what]++
}
