package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

// asAgentflow makes the test binary agentflow itself: the tests run its real main in processes of their own.
const asAgentflow = "AGENTFLOW_TEST_IS_AGENTFLOW"

func TestMain(m *testing.M) {
	if os.Getenv(asAgentflow) != "" {
		main()
	}
	os.Exit(m.Run())
}

// patience is for a machine that is busy with other things; nothing waits that long when all is well.
const patience = time.Minute

// agentflow is a command that can be started; env counts over a bare environment.
func agentflow(t *testing.T, env []string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = []string{
		asAgentflow + "=1", "HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH"), "TMPDIR=" + t.TempDir(),
		"GOCOVERDIR=" + cmp.Or(os.Getenv("GOCOVERDIR"), t.TempDir()),
	}
	cmd.Env = append(cmd.Env, env...)
	return cmd
}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

// ended runs a command to its end.
func ended(t *testing.T, env []string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := agentflow(t, env, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	require.NoError(t, cmd.Start())
	code := wait(t, cmd)
	return result{code, stdout.String(), stderr.String()}
}

// wait gives the exit code of a process, and ends one that does not end.
func wait(t *testing.T, cmd *exec.Cmd) int {
	t.Helper()
	late := time.AfterFunc(patience, func() { _ = cmd.Process.Signal(syscall.SIGQUIT) }) // with its stacks
	defer late.Stop()
	err := cmd.Wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		require.NoError(t, err)
	}
	return cmd.ProcessState.ExitCode()
}

// running is a platform in a process of its own.
type running struct {
	platform.Info
	t      *testing.T
	data   string
	cmd    *exec.Cmd
	out    *bufio.Reader
	stderr *output
	ended  bool
}

// output collects what a process writes, for whoever looks meanwhile.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// start starts a platform on a data folder and waits until it is ready.
func start(t *testing.T, data string, env []string, args ...string) *running {
	t.Helper()
	r := &running{t: t, data: data, stderr: &output{}}
	args = append([]string{"up", "--json", "--data", data}, args...)
	if !strings.Contains(strings.Join(args, " "), "--http") {
		args = append(args, "--http", "127.0.0.1:0")
	}
	r.cmd = agentflow(t, env, args...)
	r.cmd.Stderr = r.stderr
	stdout, err := r.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, r.cmd.Start())
	t.Cleanup(func() {
		if !r.ended {
			// In order, and with its servers: killed, it would leave them to end on their own in a folder that is being removed.
			_ = r.cmd.Process.Signal(syscall.SIGTERM)
			wait(t, r.cmd)
		}
	})
	r.out = bufio.NewReader(stdout)
	late := time.AfterFunc(patience, func() { _ = r.cmd.Process.Signal(syscall.SIGQUIT) })
	defer late.Stop()
	line, err := r.out.ReadBytes('\n')
	require.NoError(t, err, "not ready; it said:\n%s", r.stderr)
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&r.Info), "%s", line)
	return r
}

// stop sends a signal, and returns the exit code and what came on stdout after the first line.
func (r *running) stop(signal os.Signal) (int, string) {
	r.t.Helper()
	require.NoError(r.t, r.cmd.Process.Signal(signal))
	rest, err := io.ReadAll(r.out)
	require.NoError(r.t, err)
	r.ended = true
	return wait(r.t, r.cmd), string(rest)
}

// children are the processes that the platform started, once both run.
func (r *running) children() []int {
	r.t.Helper()
	var pids []int
	require.Eventually(r.t, func() bool {
		pids = nil
		for _, file := range []string{"postgres/data/postmaster.pid", "redis/redis.pid"} {
			text, _ := os.ReadFile(filepath.Join(r.data, file))
			first, _, _ := strings.Cut(string(text), "\n")
			if pid, err := strconv.Atoi(strings.TrimSpace(first)); err == nil && alive(pid) {
				pids = append(pids, pid)
			}
		}
		return len(pids) == 2
	}, patience, pause, "a file names a process that does not run")
	return pids
}

// alive tells whether a process runs. One that is dead and waits for its parent to notice does not.
func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		_, noProc := os.Stat("/proc/self/stat")
		return noProc != nil // without /proc the signal is the answer
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}

func requireGone(t *testing.T, pids []int) {
	t.Helper()
	for _, pid := range pids {
		require.Eventually(t, func() bool { return !alive(pid) }, patience, 10*time.Millisecond, "process %d outlives its parent", pid)
	}
}

// get asks the platform and returns the status and the body. An empty key is none.
func (r *running) get(path, key string) (int, string) {
	r.t.Helper()
	return r.call(http.MethodGet, path, key, "")
}

func (r *running) call(method, path, key, body string) (int, string) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, r.URL+path, strings.NewReader(body))
	require.NoError(r.t, err)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	if key != "" {
		req.Header.Set("X-API-Key", key)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	require.NoError(r.t, err)
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	require.NoError(r.t, err)
	return resp.StatusCode, string(text)
}
