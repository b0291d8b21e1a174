package local_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap/zaptest"

	"github.com/agentflow/agentflow/pkg/local"
)

func TestPostgresKeepsDataAndPort(t *testing.T) {
	// Root's data folder is closed to the user that Postgres runs as, and so is everything above it in /root.
	private := filepath.Join(t.TempDir(), "private")
	require.NoError(t, os.Mkdir(private, 0o700))
	dir := filepath.Join(private, "post gres'")

	server := startPostgres(t, local.PostgresOptions{Dir: dir})
	address, port := server.URL(), server.Port()
	query(t, address, "CREATE TABLE kept (n int)")
	query(t, address, "INSERT INTO kept VALUES (7)")
	require.Equal(t, local.Database, query(t, address, "SELECT current_database()"))
	require.Equal(t, "É", query(t, address, "SELECT upper('é')"))
	require.Equal(t, "on", query(t, address, "SHOW fsync"))
	require.Equal(t, "127.0.0.1", query(t, address, "SHOW listen_addresses"))

	require.NoError(t, server.Stop(t.Context()))
	require.NoError(t, server.Stop(t.Context()), "a second time")
	requireClosed(t, server.Exited())

	again := startPostgres(t, local.PostgresOptions{Dir: dir})
	require.Equal(t, port, again.Port())
	require.Equal(t, address, again.URL())
	require.Equal(t, "7", query(t, address, "SELECT n FROM kept"))

	require.NoError(t, again.Restart(t.Context()))
	require.Equal(t, "7", query(t, address, "SELECT n FROM kept"))
}

func TestPostgresDemandsItsPassword(t *testing.T) {
	dir := t.TempDir()
	server := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true, Template: template})
	secret, err := os.ReadFile(filepath.Join(dir, "password"))
	require.NoError(t, err)

	_, err = pgconn.Connect(t.Context(), strings.Replace(server.URL(), strings.TrimSpace(string(secret)), "wrong", 1))
	var refused *pgconn.PgError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, "28P01", refused.Code)

	info, err := os.Stat(filepath.Join(dir, "password"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	require.NoFileExists(t, filepath.Join(dir, "initdb.password"))
}

func TestPostgresComesBackAfterKill(t *testing.T) {
	server := startPostgres(t, local.PostgresOptions{Dir: t.TempDir()})
	address := server.URL()
	query(t, address, "CREATE TABLE kept (n int)")
	query(t, address, "INSERT INTO kept VALUES (7)")

	// An open session is an orphan for a moment and holds the old server's memory.
	session, err := pgconn.Connect(t.Context(), address)
	require.NoError(t, err)
	require.NoError(t, server.Kill())
	requireClosed(t, server.Exited())
	require.NoError(t, server.Start(t.Context()))
	require.Equal(t, "7", query(t, address, "SELECT n FROM kept"))
	require.Error(t, session.Ping(t.Context()))
	require.NoError(t, session.Close(t.Context()))

	require.NoError(t, server.Start(t.Context()), "Start of a running server does nothing")
	require.Equal(t, "7", query(t, address, "SELECT n FROM kept"))
}

// A pid in a stale file may belong to another Postgres by now; Postgres alone would refuse to start then.
func TestPostgresLeavesTheNewOwnerOfAPidAlone(t *testing.T) {
	dir := t.TempDir()
	neighbour := startPostgres(t, local.PostgresOptions{Dir: filepath.Join(dir, "neighbour"), Fast: true, Template: template})
	server := startPostgres(t, local.PostgresOptions{Dir: filepath.Join(dir, "server"), Fast: true, Template: template})
	require.NoError(t, server.Kill())

	stale := filepath.Join(dir, "server", "data", "postmaster.pid")
	text, err := os.ReadFile(stale)
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\n")
	foreign, err := os.ReadFile(filepath.Join(dir, "neighbour", "data", "postmaster.pid"))
	require.NoError(t, err)
	pid, _, _ := strings.Cut(string(foreign), "\n")
	require.NoError(t, os.WriteFile(stale, []byte(pid+"\n"+rest), 0o600))

	require.NoError(t, server.Start(t.Context()))
	query(t, server.URL(), "SELECT 1")
	query(t, neighbour.URL(), "SELECT 1")
}

func TestPostgresFolderIsForOne(t *testing.T) {
	dir := t.TempDir()
	first := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true, Template: template})

	_, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: dir, Fast: true, Template: template})
	var locked *local.LockedError
	require.ErrorAs(t, err, &locked)
	require.Equal(t, os.Getpid(), locked.PID)
	query(t, first.URL(), "SELECT 1")
}

func TestPostgresStartErrorQuotesTheLog(t *testing.T) {
	dir := t.TempDir()
	_, err := local.StartPostgres(t.Context(), local.PostgresOptions{
		Dir: dir, Fast: true, Template: template, Settings: map[string]string{"shared_buffers": "a lot"},
	})
	require.ErrorContains(t, err, `invalid value for parameter "shared_buffers"`)

	// The failed start has left nothing that stands in the way of the next.
	server := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true, Template: template})
	query(t, server.URL(), "SELECT 1")
}

func TestPostgresStartsOverAfterAnUnfinishedInitdb(t *testing.T) {
	dir := t.TempDir()
	half := filepath.Join(dir, "data.new", "base")
	require.NoError(t, os.MkdirAll(half, 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "data.new", "PG_VERSION"), []byte("15\n"), 0o600))

	server := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true})
	query(t, server.URL(), "SELECT 1")
	require.NoDirExists(t, filepath.Join(dir, "data.new"))
}

func TestPostgresTakesAnotherPortWhenItsOwnIsTaken(t *testing.T) {
	dir := t.TempDir()
	server := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true, Template: template})
	port := server.Port()
	require.NoError(t, server.Stop(t.Context()))

	taken := listen(t, port)
	other := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true, Template: template})
	require.NotEqual(t, port, other.Port())
	query(t, other.URL(), "SELECT 1")
	require.NoError(t, other.Stop(t.Context()))

	// A port that was asked for is not exchanged.
	_, err := local.StartPostgres(t.Context(), local.PostgresOptions{Dir: dir, Fast: true, Template: template, Port: port})
	require.ErrorContains(t, err, "ddress already in use")
	require.NoError(t, taken.Close())
}

func TestPostgresStartCanBeCalledOff(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond) // initdb alone takes longer
	defer cancel()
	_, err := local.StartPostgres(ctx, local.PostgresOptions{Dir: dir, Fast: true})
	require.ErrorIs(t, err, context.DeadlineExceeded)

	server := startPostgres(t, local.PostgresOptions{Dir: dir, Fast: true})
	query(t, server.URL(), "SELECT 1")
}

func TestPostgresStopsHardWhenTimeIsUp(t *testing.T) {
	server := startPostgres(t, local.PostgresOptions{Dir: t.TempDir(), Fast: true, Template: template})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, server.Stop(ctx), context.Canceled)
	requireClosed(t, server.Exited())
	require.NoError(t, server.Start(t.Context()))
	query(t, server.URL(), "SELECT 1")
}

func TestPostgresFromATemplate(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"one", "two", "three"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // the first makes the template while the others wait for it
			server := startPostgres(t, local.PostgresOptions{
				Dir: filepath.Join(dir, name), Fast: true, Template: filepath.Join(dir, "template"),
			})
			query(t, server.URL(), "CREATE TABLE mine (n int)")
		})
	}
}

// The other tests run as whoever runs them; when that is root, this one repeats two of them as somebody else.
func TestPostgresOfAnOrdinaryUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Log("every test here runs as an ordinary user")
		return
	}
	const nobody = 65534
	dir := t.TempDir()
	require.NoError(t, os.Chown(dir, nobody, nobody))
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755))
	program, err := os.ReadFile(os.Args[0])
	require.NoError(t, err)
	binary := filepath.Join(dir, "local.test")
	require.NoError(t, os.WriteFile(binary, program, 0o755))

	const tests = "^(TestPostgresComesBackAfterKill|TestServersDieWithAKilledParent)$"
	child := exec.CommandContext(t.Context(), binary, "-test.v", "-test.run="+tests)
	child.Dir = dir
	child.Env = []string{"PATH=" + os.Getenv("PATH"), "TMPDIR=" + dir, "HOME=" + dir}
	child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	out, err := child.CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, 2, strings.Count("\n"+string(out), "\n--- PASS: Test"), "%s", out)
}

func startPostgres(t *testing.T, o local.PostgresOptions) *local.Postgres {
	t.Helper()
	o.Log = zaptest.NewLogger(t)
	server, err := local.StartPostgres(t.Context(), o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(cleanup(t))) })
	return server
}

// cleanup is a context for the time after the test, when its own has ended.
func cleanup(t *testing.T) context.Context {
	t.Helper()
	return context.WithoutCancel(t.Context())
}

// query runs one statement on a connection of its own and returns the first value, if there is one.
func query(t *testing.T, address, sql string) string {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), address)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	results, err := conn.Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
	if len(results) == 0 || len(results[0].Rows) == 0 {
		return ""
	}
	return string(results[0].Rows[0][0])
}

func listen(t *testing.T, port int) net.Listener {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:"+strconv.Itoa(port))
	require.NoError(t, err)
	return listener
}

func requireClosed(t *testing.T, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	default:
		t.Fatal("the server still runs")
	}
}
