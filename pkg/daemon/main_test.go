package daemon

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
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/pkg/sentrytest"
)

// actAsService makes the test binary a service: Main runs instead of the tests. Its value is how to behave.
const actAsService = "AGENTFLOW_DAEMON_TEST"

type testServiceConfig struct {
	Common
	Behave string `env:"AGENTFLOW_DAEMON_TEST" help:"how to behave"`
	Token  string `env:"UPSTREAM_TOKEN" secret:"true" help:"a secret"`
}

func (testServiceConfig) Defaults() map[string]string {
	return map[string]string{"ADMIN_ADDR": "127.0.0.1:0", "SHUTDOWN_TIMEOUT_SECONDS": "5"}
}

func runTestService(ctx context.Context, rt *Runtime, cfg testServiceConfig) error {
	g := rt.Group()
	defer g.Close(ctx)
	g.Door("store", func(context.Context) error {
		rt.Log.Info("store closed")
		return nil
	})
	g.Add(Part{Name: "worker", Run: func(ctx context.Context) error {
		rt.Log.Info("working", zap.String("token", cfg.Token))
		switch cfg.Behave {
		case "fail":
			return errors.New("out of luck")
		case "panic":
			panic("out of mind")
		case "hang":
			<-ctx.Done()
			rt.Log.Info("hanging")
			select {}
		}
		<-ctx.Done()
		rt.Log.Info("worker ended")
		return nil
	}})
	return g.Run(ctx)
}

// child is a service in a process of its own.
type child struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner // its log
	seen  []string
}

func spawn(t *testing.T, behave string, env ...string) *child {
	t.Helper()
	cmd := serviceCommand(t, behave, nil, env...)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return &child{cmd: cmd, lines: bufio.NewScanner(stderr)}
}

func serviceCommand(t *testing.T, behave string, args []string, env ...string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, exe, args...)
	cmd.Env = append([]string{actAsService + "=" + behave, "GOCOVERDIR=" + cmp.Or(os.Getenv("GOCOVERDIR"), t.TempDir())}, env...)
	return cmd
}

// await is the line of the log with that message, which may have come already.
func (c *child) await(t *testing.T, msg string) map[string]any {
	t.Helper()
	for i := 0; i < len(c.seen) || c.lines.Scan(); i++ {
		if i == len(c.seen) {
			c.seen = append(c.seen, c.lines.Text())
		}
		var line map[string]any
		if json.Unmarshal([]byte(c.seen[i]), &line) == nil && line["msg"] == msg {
			return line
		}
	}
	require.FailNow(t, "the service ended without saying it", "%q in:\n%s", msg, strings.Join(c.seen, "\n"))
	return nil
}

// exit reads the log to its end and returns the exit code.
func (c *child) exit(t *testing.T) int {
	t.Helper()
	for c.lines.Scan() {
		c.seen = append(c.seen, c.lines.Text())
	}
	var failed *exec.ExitError
	if err := c.cmd.Wait(); err != nil {
		require.ErrorAs(t, err, &failed)
	}
	return c.cmd.ProcessState.ExitCode()
}

func (c *child) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	require.NoError(t, c.cmd.Process.Signal(s))
}

func TestMainStopsInOrder(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		c := spawn(t, "work", "UPSTREAM_TOKEN=PLANTED-SECRET", "SENTRY_DNS=oops")
		require.Equal(t, "SENTRY_DSN", c.await(t, "unknown variable, perhaps misspelt")["meant"])
		config, ok := c.await(t, "starting")["config"].(map[string]any)
		require.True(t, ok)
		require.Equal(t, masked, config["UPSTREAM_TOKEN"])
		require.Equal(t, "5s", config["SHUTDOWN_TIMEOUT_SECONDS"])
		c.await(t, "working")
		c.signal(t, s)
		require.Equal(t, exitOK, c.exit(t))
		require.Regexp(t, `(?s)"signal".*"worker ended".*"store closed".*"stopped"`, strings.Join(c.seen, "\n"))
		require.NotContains(t, strings.Join(c.seen, "\n"), "PLANTED")
	}
}

func TestMainDrainsBeforeItCloses(t *testing.T) {
	t.Parallel()
	c := spawn(t, "work", "SHUTDOWN_DELAY_SECONDS=300")
	addr, ok := c.await(t, "admin port open")["addr"].(string)
	require.True(t, ok)
	c.await(t, "working")

	check := serviceCommand(t, "work", []string{"healthcheck"}, "ADMIN_ADDR="+addr)
	out, err := check.CombinedOutput()
	require.NoError(t, err, "%s", out)

	c.signal(t, syscall.SIGTERM)
	c.await(t, "signal")
	require.Eventually(t, func() bool {
		code, _, body := ask(t, http.MethodGet, "http://"+addr+"/health/ready", "")
		return code == http.StatusServiceUnavailable && strings.Contains(body, StatusDraining)
	}, patience, 5*time.Millisecond)
	check = serviceCommand(t, "work", []string{"healthcheck"}, "ADMIN_ADDR="+addr)
	out, err = check.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitFailed, check.ProcessState.ExitCode())
	require.Contains(t, string(out), "draining")

	c.signal(t, syscall.SIGTERM)
	c.await(t, "second signal, ending at once")
	require.Equal(t, exitFailed, c.exit(t))
	require.NotContains(t, strings.Join(c.seen, "\n"), "worker ended")
}

func TestMainSaysWhyItFailed(t *testing.T) {
	t.Parallel()
	for behave, want := range map[string]string{
		"fail":  "testd: worker: out of luck",
		"panic": "testd: worker: panic: out of mind",
	} {
		in := sentrytest.New(t)
		c := spawn(t, behave, "SENTRY_DSN="+in.DSN(), "SENTRY_ENVIRONMENT=production")
		c.await(t, "store closed")
		require.Equal(t, want, c.await(t, "stopped")["error"])
		require.Equal(t, exitFailed, c.exit(t))
		require.Len(t, in.Events(), 1, "reported once")
	}
}

func TestMainLeavesBehindWhatHangs(t *testing.T) {
	t.Parallel()
	c := spawn(t, "hang", "SHUTDOWN_TIMEOUT_SECONDS=1")
	c.await(t, "working")
	c.signal(t, syscall.SIGTERM)
	c.await(t, "hanging")
	c.await(t, "store closed")
	require.Contains(t, c.await(t, "stopped")["error"], "worker: did not stop in time")
	require.Equal(t, exitFailed, c.exit(t))
}

func TestMainRefusesAWrongConfiguration(t *testing.T) {
	t.Parallel()
	cmd := serviceCommand(t, "work", nil, "LOG_LEVEL=loud", "SHUTDOWN_TIMEOUT_SECONDS=0", "SENTRY_DSN=ftp://x")
	out, err := cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitConfig, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "testd: configuration: 3 problem(s)\n  LOG_LEVEL=\"loud\"")

	cmd = serviceCommand(t, "work", nil, "ADMIN_ADDR=203.0.113.1:1")
	out, err = cmd.CombinedOutput()
	require.Error(t, err)
	require.Equal(t, exitFailed, cmd.ProcessState.ExitCode())
	require.Contains(t, string(out), "open admin port")
}

func TestMainCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"--help"}, exitOK, "UPSTREAM_TOKEN  (secret, or UPSTREAM_TOKEN_FILE)", ""},
		{[]string{"-h"}, exitOK, "ADMIN_ADDR  (default 127.0.0.1:0)", ""},
		{[]string{"--version"}, exitOK, "testd " + Version(), ""},
		{[]string{"dance"}, exitConfig, "", `unknown argument "dance"`},
		{[]string{"--help", "me"}, exitConfig, "", `unknown argument "me"`},
		{[]string{"healthcheck"}, exitFailed, "", "health check"}, // port 0: nobody there
	} {
		var stdout, stderr bytes.Buffer
		p := process[testServiceConfig]{name: "testd", run: runTestService, stdout: &stdout, stderr: &stderr}
		require.Equal(t, c.code, p.main(c.args), "%v: %s", c.args, &stderr)
		require.Contains(t, stdout.String(), c.stdout)
		require.Contains(t, stderr.String(), c.stderr)
	}
	p := process[testServiceConfig]{name: "testd", environ: []string{"LOG_LEVEL=loud"}, stderr: io.Discard}
	require.Equal(t, exitConfig, p.main([]string{"healthcheck"}))
}

func TestProbeFindsAnOpenAddress(t *testing.T) {
	t.Parallel()
	rt, _ := start(t, quiet())
	admin := serveAdmin(t, rt)
	_, port, found := strings.Cut(admin, ":")
	require.True(t, found)
	require.NoError(t, probe(t.Context(), ":"+port))
	require.NoError(t, probe(t.Context(), "0.0.0.0:"+port))
	require.NoError(t, probe(t.Context(), "127.0.0.1:"+port))
	require.Error(t, probe(t.Context(), "no port"))
}
