package main

import (
	"bufio"
	"encoding/json"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
)

// The life of one data folder: first start, crash, warm starts.
//
//nolint:tparallel // the steps of one life come one after the other
func TestUp(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "data")
	first := start(t, data, nil)

	require.Equal(t, first.cmd.Process.Pid, first.PID)
	require.Equal(t, "dev", string(first.Tenant))
	for _, address := range []string{first.URL, first.NATSURL, first.DatabaseURL, first.RedisURL} {
		requireLoopback(t, address)
	}
	bypass, err := db.CanBypass(t.Context(), first.DatabaseURL)
	require.NoError(t, err)
	require.False(t, bypass, "row level security must bind the login of database_url")

	status, body := first.get("/workflows/node-types", "")
	require.Equal(t, http.StatusOK, status, "on loopback no key is needed: %s", body)
	status, _ = first.get("/tenants", first.APIKey)
	require.Equal(t, http.StatusForbidden, status, "the tenant's key is no admin key")
	status, body = first.get("/tenants", first.AdminKey)
	require.Equal(t, http.StatusOK, status, body)
	status, _ = first.get("/workflows/node-types", "af_wrong")
	require.Equal(t, http.StatusUnauthorized, status, "a wrong key is refused even where none is needed")

	second := ended(t, nil, "up", "--data", data, "--http", "127.0.0.1:0")
	require.Equal(t, exitFailed, second.code)
	require.Empty(t, second.stdout)
	require.Contains(t, second.stderr, "already runs on "+data+" with pid "+strconv.Itoa(first.PID))

	execution := sample(t, first)
	children := first.children()
	code, rest := first.stop(syscall.SIGKILL)
	require.Equal(t, -1, code)
	require.Empty(t, rest)
	requireGone(t, children)

	again := start(t, data, nil)
	require.Equal(t, first.APIKey, again.APIKey, "the key of yesterday works today")
	require.Equal(t, first.AdminKey, again.AdminKey)
	require.Equal(t, first.DatabaseURL, again.DatabaseURL)
	require.Equal(t, first.RedisURL, again.RedisURL)
	require.Equal(t, first.NATSURL, again.NATSURL)
	status, body = again.get("/executions/"+execution, again.APIKey)
	require.Equal(t, http.StatusOK, status, body)
	require.Contains(t, body, `"COMPLETED"`)
	requireRevived(t, again)
	children = again.children()
	code, rest = again.stop(syscall.SIGTERM)
	require.Equal(t, exitOK, code, again.stderr)
	require.Empty(t, rest, "one line on stdout is all")
	requireGone(t, children)

	info, err := os.Stat(filepath.Join(data, "keys.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoFileExists(t, filepath.Join(data, "running.json"))

	t.Run("for people", func(t *testing.T) { testPeople(t, data) })
	t.Run("without a redis-server", func(t *testing.T) { testStandIn(t, data) })
	t.Run("a revoked key is replaced", func(t *testing.T) { testRevoked(t, data, again.APIKey) })
	t.Run("asks for keys", func(t *testing.T) { testKeys(t, data) })
	t.Run("tools on a stopped platform", func(t *testing.T) { testStopped(t, data) })
}

// requireRevived kills the private stores of a platform, which brings them back.
func requireRevived(t *testing.T, r *running) {
	t.Helper()
	before := r.children()
	for _, pid := range before {
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	requireGone(t, before)
	require.Eventually(t, func() bool { status, _ := r.get("/tenants", r.AdminKey); return status == http.StatusOK }, patience, pause)
	require.Eventually(t, func() bool {
		status, body := r.get("/health/ready", "")
		return status == http.StatusOK && !strings.Contains(body, "failed")
	}, patience, pause)
	require.NotEqual(t, before, r.children())
}

// testPeople: without --json there is a summary, and the command in it works.
func testPeople(t *testing.T, data string) {
	t.Helper()
	cmd := agentflow(t, nil, "up", "--data", data, "--http", "127.0.0.1:0")
	stderr := &output{}
	cmd.Stderr = stderr
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() { _ = cmd.Process.Kill() }) // when the test has failed
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	var text strings.Builder
	lines := bufio.NewScanner(stdout)
	for lines.Scan() && lines.Text() != "Ctrl-C stops it." {
		text.WriteString(lines.Text() + "\n")
	}
	r := &running{t: t}
	r.URL = found(t, text.String(), `API +(http://\S+) `)
	body := found(t, text.String(), `-d '([^']+)'`)
	status, answer := r.call(http.MethodPost, "/workflows/execute", "", body)
	require.Equal(t, http.StatusOK, status, answer)
	require.Contains(t, answer, "Hello, world!")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, exitOK, wait(t, cmd), stderr)
}

func found(t *testing.T, text, pattern string) string {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(text)
	require.NotNil(t, match, "%s in:\n%s", pattern, text)
	return match[1]
}

// testStandIn: where there is no redis-server the built-in one serves, and says so. (Postgres is found beside the PATH.)
func testStandIn(t *testing.T, data string) {
	t.Helper()
	r := start(t, data, []string{"PATH=/nonexistent"})
	requireLoopback(t, r.RedisURL)
	require.Contains(t, r.stderr.String(), "built-in stand-in")
	sample(t, r)
	code, _ := r.stop(syscall.SIGTERM)
	require.Equal(t, exitOK, code, r.stderr)
}

// testRevoked: whoever revokes the key of the data folder gets another one at the next start.
func testRevoked(t *testing.T, data, key string) {
	t.Helper()
	r := start(t, data, nil)
	require.Equal(t, key, r.APIKey)
	var list struct {
		Items []struct {
			ID string `json:"id"`
		} `json:"items"`
	}
	status, body := r.get("/keys?tenant_id=dev", r.AdminKey)
	require.Equal(t, http.StatusOK, status, body)
	require.NoError(t, json.Unmarshal([]byte(body), &list))
	require.Len(t, list.Items, 1)
	status, body = r.call(http.MethodDelete, "/keys/"+list.Items[0].ID+"?tenant_id=dev", r.AdminKey, "")
	require.Equal(t, http.StatusOK, status, body)
	code, _ := r.stop(syscall.SIGTERM)
	require.Equal(t, exitOK, code, r.stderr)

	r = start(t, data, nil)
	require.NotEqual(t, key, r.APIKey)
	status, body = r.get("/workflows/node-types", r.APIKey)
	require.Equal(t, http.StatusOK, status, body)
	code, _ = r.stop(syscall.SIGTERM)
	require.Equal(t, exitOK, code, r.stderr)
}

// testKeys: an address that others can reach demands a key, and so does AUTH_REQUIRED.
func testKeys(t *testing.T, data string) {
	t.Helper()
	for name, how := range map[string]struct {
		env  []string
		http string
	}{
		"told to":                    {[]string{"AUTH_REQUIRED=true", "EGRESS_ALLOW=", "AGENTFLOW_ADMIN_KEY=a-key-from-outside"}, "127.0.0.1:0"},
		"every address":              {nil, "0.0.0.0:0"},
		"every address, told not to": {[]string{"AUTH_REQUIRED=false"}, "0.0.0.0:0"},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, data, how.env, "--http", how.http)
			requireLoopback(t, r.URL) // an address that this machine can use
			status, _ := r.get("/workflows/node-types", "")
			require.Equal(t, http.StatusUnauthorized, status)
			status, body := r.get("/workflows/node-types", r.APIKey)
			require.Equal(t, http.StatusOK, status, body)
			if name == "told to" {
				require.Equal(t, "a-key-from-outside", r.AdminKey)
			}
			// Where the machine's own addresses are closed, a workflow cannot call the platform.
			status, body = r.call(http.MethodPost, "/workflows/execute", r.APIKey, callTo(r.URL))
			require.Equal(t, http.StatusInternalServerError, status, body)
			require.Contains(t, body, "NODE_FAILED")
			code, _ := r.stop(syscall.SIGINT)
			require.Equal(t, exitOK, code, r.stderr)
		})
	}
}

// testStopped: migrations can be looked at, taken back and applied without the platform.
func testStopped(t *testing.T, data string) {
	t.Helper()
	env := []string{"AGENTFLOW_DATA=" + data}
	got := ended(t, env, "migrate", "status")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.NotContains(t, got.stdout, "missing")

	got = ended(t, env, "migrate", "down")
	require.Equal(t, exitOK, got.code, got.stderr)
	got = ended(t, env, "migrate", "status")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stdout, "missing")
	got = ended(t, env, "migrate", "up")
	require.Equal(t, exitOK, got.code, got.stderr)
	require.NotContains(t, got.stdout, "missing")

	got = ended(t, env, "replay")
	require.Equal(t, exitOK, got.code, got.stderr)
	got = ended(t, env, "verify")
	require.Equal(t, exitOK, got.code, got.stdout+got.stderr)
	require.Contains(t, got.stdout, " 0 differences")

	got = ended(t, env, "tenant", "list")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.stderr, "no platform runs on "+data)
}

func TestUpPortTaken(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	got := ended(t, nil, "up", "--data", t.TempDir(), "--http", l.Addr().String())
	require.Equal(t, exitFailed, got.code)
	require.Empty(t, got.stdout)
	require.Contains(t, got.stderr, l.Addr().String()+" is taken by another process")
	require.Contains(t, got.stderr, "--http")
}

func TestUpRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env, args []string
		code      int
		want      string
	}{
		"an argument":    {nil, []string{"here"}, exitUsage, `unexpected argument "here"`},
		"a flag":         {nil, []string{"--colour"}, exitUsage, "unknown flag: --colour"},
		"durability":     {nil, []string{"--durability", "never"}, exitUsage, "interval or always"},
		"an address":     {nil, []string{"--http", "nowhere"}, exitUsage, `HTTP_ADDR="nowhere": must be host:port`},
		"a variable":     {[]string{"EXECUTOR_CONCURRENCY=none", "AUTH_REQUIRED=perhaps"}, nil, exitUsage, "configuration: 2 problem(s)"},
		"a database URL": {[]string{"DATABASE_URL=mysql://localhost/x"}, nil, exitUsage, "must begin with postgres://"},
		"store URLs":     {[]string{"DATABASE_URL=nowhere", "REDIS_URL=nowhere"}, nil, exitUsage, "configuration: 2 problem(s)"},
		"damaged keys":   {[]string{"AGENTFLOW_DATA=" + damaged(t)}, nil, exitFailed, "is damaged"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"up", "--json"}, c.args...)
			if name != "an address" {
				args = append(args, "--http", "127.0.0.1:0")
			}
			got := ended(t, c.env, args...)
			require.Equal(t, c.code, got.code, got.stderr)
			require.Empty(t, got.stdout)
			require.Contains(t, got.stderr, c.want)
		})
	}
}

func damaged(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "keys.json"), []byte(`{"admin_key`), 0o600))
	return dir
}

func requireLoopback(t *testing.T, address string) {
	t.Helper()
	u, err := url.Parse(address)
	require.NoError(t, err)
	require.Equal(t, "127.0.0.1", u.Hostname())
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// sample runs the sample on a platform and returns the id of the execution.
func sample(t *testing.T, r *running) string {
	t.Helper()
	got := ended(t, []string{"AGENTFLOW_URL=" + r.URL, "AGENTFLOW_API_KEY=" + r.APIKey}, "run", example("hello"), "--set", "user_input=Ada")
	require.Equal(t, exitOK, got.code, got.stderr)
	var state struct {
		Metadata struct {
			Execution string `json:"execution_id"`
		} `json:"metadata"`
		Output string `json:"final_output"`
	}
	require.NoError(t, json.Unmarshal([]byte(got.stdout), &state))
	require.Equal(t, "Hello, Ada!", state.Output)
	return state.Metadata.Execution
}

func callTo(address string) string {
	const doc = `{"workflow":{"start_node":"a","nodes":[{"id":"a","type":"api","metadata":{"source_id":"s","endpoint":"/health/live"}}],` +
		`"sources":[{"id":"s","kind":"api","config":{"base_url":"ADDRESS","retries":0}}]}}`
	return strings.ReplaceAll(doc, "ADDRESS", address)
}
