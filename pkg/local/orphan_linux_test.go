package local_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
)

// A bound, not an expectation: the servers are gone within some 50 ms.
const goneWithin = time.Minute

func TestServersDieWithAKilledParent(t *testing.T) {
	dir := t.TempDir()
	parent := startParent(t, dir)

	postmaster := pidIn(t, filepath.Join(dir, "postgres", "data", "postmaster.pid"))
	servers := family(dir)
	require.Greater(t, len(servers), 4, "the postmaster has its usual helpers")
	require.Contains(t, servers, postmaster)
	require.Contains(t, servers, pidIn(t, filepath.Join(dir, "redis", "redis.pid")))

	require.NoError(t, parent.Process.Kill())
	for _, pid := range servers {
		require.Eventually(t, func() bool { return !alive(pid) }, goneWithin, 5*time.Millisecond, "process %d", pid)
	}

	t.Run("and the next parent goes on", func(t *testing.T) {
		next := startParent(t, dir)
		require.NotEqual(t, postmaster, pidIn(t, filepath.Join(dir, "postgres", "data", "postmaster.pid")))
		require.NoError(t, next.Process.Signal(syscall.Signal(0)))
	})
}

// A restart right behind a kill -9 finds the old postmaster still shutting down.
func TestParentIsKilledAgainAndAgain(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		parent := startParent(t, dir)
		require.NoError(t, parent.Process.Kill())
		_ = parent.Wait() // "signal: killed"
	}
	server := startPostgres(t, local.PostgresOptions{Dir: filepath.Join(dir, "postgres")})
	query(t, server.URL(), "SELECT 1")
}

func TestLockIsFreedByKill(t *testing.T) {
	dir := t.TempDir()
	parent := startParent(t, dir)

	_, err := local.LockDir(dir)
	var locked *local.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, parent.Process.Pid, locked.PID)
	require.Contains(t, err.Error(), fmt.Sprintf("another agentflow already runs on %s with pid %d", dir, parent.Process.Pid))

	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // "signal: killed"
	lock, err := local.LockDir(dir)
	require.NoError(t, err)
	require.NoError(t, lock.Unlock())
}

// The kernel takes the thread that forked for the parent, and a locked thread ends with its goroutine.
func TestServerSurvivesTheThreadThatAskedForIt(t *testing.T) {
	dir := t.TempDir()
	type result struct {
		server *local.Redis
		err    error
		thread int
	}
	results := make(chan result)
	ask := func() {
		runtime.LockOSThread() // and never unlocked
		r := result{thread: syscall.Gettid()}
		if r.thread == os.Getpid() {
			results <- r // the first thread never ends; now it is out of the way
			return
		}
		r.server, r.err = local.StartRedis(t.Context(), local.RedisOptions{Dir: dir})
		results <- r
	}
	go ask()
	r := <-results
	if r.thread == os.Getpid() {
		go ask()
		r = <-results
	}
	require.NoError(t, r.err)
	t.Cleanup(func() { require.NoError(t, r.server.Stop(cleanup(t))) })

	task := fmt.Sprintf("/proc/self/task/%d", r.thread)
	require.Eventually(t, func() bool { _, err := os.Stat(task); return err != nil }, goneWithin, time.Millisecond)
	select {
	case <-r.server.Exited():
		t.Fatal("the server died with the thread")
	default:
	}
	require.NoError(t, ping(t, r.server.URL()))
}

// startParent runs such a process on dir until it is ready.
func startParent(t *testing.T, dir string) *exec.Cmd {
	t.Helper()
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), parentOf+"="+dir, templateIn+"="+template)
	parent.Stderr = os.Stderr
	stdout, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	t.Cleanup(func() {
		orphans := family(dir)
		_ = parent.Process.Kill() // most tests have done it
		_ = parent.Wait()
		for _, pid := range orphans { // they still write into the folder that is removed next
			require.Eventually(t, func() bool { return !alive(pid) }, goneWithin, 5*time.Millisecond, "process %d", pid)
		}
	})
	var word string
	_, err = fmt.Fscan(stdout, &word)
	require.NoError(t, err)
	require.Equal(t, "ready", word)
	return parent
}

func pidIn(t *testing.T, file string) int {
	t.Helper()
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	first, _, _ := strings.Cut(string(text), "\n")
	pid, err := strconv.Atoi(strings.TrimSpace(first))
	require.NoError(t, err)
	return pid
}

// family is every process of the servers in a folder that lives.
func family(dir string) []int {
	var pids []int
	for _, file := range []string{"postgres/data/postmaster.pid", "redis/redis.pid"} {
		text, err := os.ReadFile(filepath.Join(dir, file))
		if err != nil {
			continue // it has ended in good order
		}
		first, _, _ := strings.Cut(string(text), "\n")
		children, _ := os.ReadFile(fmt.Sprintf("/proc/%[1]s/task/%[1]s/children", strings.TrimSpace(first)))
		for _, field := range append(strings.Fields(string(children)), strings.TrimSpace(first)) {
			if pid, err := strconv.Atoi(field); err == nil && alive(pid) {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// alive counts a zombie as dead: its reaper may take its time.
func alive(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	return !strings.HasPrefix(rest, "Z")
}
