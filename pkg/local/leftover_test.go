package local

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// Where the kernel does not end the children of a killed parent, the next start finds them.

func TestPostgresStopsALeftover(t *testing.T) {
	options := PostgresOptions{Dir: t.TempDir(), Fast: true}
	first, err := StartPostgres(t.Context(), options)
	require.NoError(t, err)
	require.NoError(t, first.Stop(t.Context()))

	folder, err := os.Open(first.cluster())
	require.NoError(t, err)
	c := first.command(folder, first.Port())
	orphan := startOrphan(t, c)
	require.NoError(t, folder.Close())
	waitFor(t, func() bool { return first.ready(t.Context(), &child{cmd: orphan.cmd}) })

	second, err := StartPostgres(t.Context(), options)
	require.NoError(t, err)
	requireEnded(t, orphan)
	require.Equal(t, first.Port(), second.Port(), "the leftover's port is free again")
	require.NoError(t, second.Stop(t.Context()))
}

func TestRedisStopsALeftover(t *testing.T) {
	options := RedisOptions{Dir: t.TempDir()}
	first, err := StartRedis(t.Context(), options)
	require.NoError(t, err)
	require.NoError(t, first.Stop(t.Context()))

	c, err := first.command(first.Port())
	require.NoError(t, err)
	orphan := startOrphan(t, c)
	waitFor(t, func() bool { return first.ready(t.Context(), nil) })
	// Suspended it cannot act on SIGTERM.
	require.NoError(t, orphan.cmd.Process.Signal(syscall.SIGSTOP))

	second, err := StartRedis(t.Context(), options)
	require.NoError(t, err)
	requireEnded(t, orphan)
	require.Equal(t, first.Port(), second.Port())
	require.NoError(t, second.Stop(t.Context()))
}

func TestALeftoverThatIgnoresUsIsKilled(t *testing.T) {
	dir := t.TempDir()
	c := command{
		path: "/bin/sh", args: []string{"-c", `trap "" TERM; echo $$ > pid.new; mv pid.new pid; while :; do sleep 0.05; done`},
		dir: dir, output: newOutput(zap.NewNop(), redisLevel),
	}
	orphan := startOrphan(t, c)
	pidFile := filepath.Join(dir, "pid")
	waitFor(t, func() bool { _, err := os.Stat(pidFile); return err == nil })
	shell, err := filepath.EvalSymlinks("/bin/sh")
	require.NoError(t, err)

	old := leftover{pidFile: pidFile, program: filepath.Base(shell), dir: dir, polite: syscall.SIGTERM, firm: syscall.SIGKILL}
	elsewhere := old
	elsewhere.dir = t.TempDir()
	require.NoError(t, elsewhere.end(t.Context(), orphan.cmd.Process.Pid), "a process that works elsewhere is not ours")
	require.NoError(t, orphan.cmd.Process.Signal(syscall.Signal(0)))

	require.NoError(t, old.clear(t.Context()))
	requireEnded(t, orphan)
	require.NoFileExists(t, pidFile)
}

func TestAPidFileOfNobodyIsRemoved(t *testing.T) {
	for name, text := range map[string]string{"empty": "", "words": "no pid\n", "everybody": "-1\n", "ours": "1\n"} {
		t.Run(name, func(t *testing.T) {
			pidFile := filepath.Join(t.TempDir(), "pid")
			require.NoError(t, os.WriteFile(pidFile, []byte(text), 0o600))
			old := leftover{pidFile: pidFile, program: "postgres", dir: "/nowhere", polite: syscall.SIGTERM, firm: syscall.SIGKILL}
			require.NoError(t, old.clear(t.Context()))
			require.NoFileExists(t, pidFile)
		})
	}
}

// orphan is a process that nothing ties to us but that we reap, as init would.
type orphan struct {
	cmd  *exec.Cmd
	done chan struct{}
}

func startOrphan(t *testing.T, c command) orphan {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), c.path, c.args...)
	cmd.Dir, cmd.Env, cmd.ExtraFiles = c.dir, environment(), c.files
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if c.account != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.account.uid, Gid: c.account.gid}
	}
	require.NoError(t, cmd.Start())
	o := orphan{cmd: cmd, done: make(chan struct{})}
	go func() {
		defer close(o.done)
		_ = cmd.Wait() // ends by a signal
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // gone, unless the test has failed
		<-o.done
	})
	return o
}

func requireEnded(t *testing.T, o orphan) {
	t.Helper()
	select {
	case <-o.done:
	case <-time.After(time.Minute):
		t.Fatal("the leftover still runs")
	}
}

func waitFor(t *testing.T, yes func() bool) {
	t.Helper()
	ok, err := poll(t.Context(), time.Minute, yes)
	require.NoError(t, err)
	require.True(t, ok)
}
