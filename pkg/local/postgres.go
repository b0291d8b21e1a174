package local

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	// Database is the database that StartPostgres sees to.
	Database  = "agentflow"
	superuser = "postgres"
)

// PostgresOptions say where and how a private cluster runs.
type PostgresOptions struct {
	Dir string // the folder that holds the cluster; made if need be
	Log *zap.Logger
	// Port 0 stands for the port of the last run if it is free, else for any free one.
	Port int
	// Fast gives up durability for speed: nothing is synced, so a crash of the machine ruins the cluster. For tests.
	Fast bool
	// Template names a folder that keeps a fresh cluster to copy from, made on first use: faster than initdb. The
	// copies share its password. For tests.
	Template string
	// Download allows fetching a Postgres of about 30 MB when the machine has none.
	Download bool
	// Settings are added to the server's configuration, over ours.
	Settings map[string]string
}

// Postgres is a private cluster. Its methods may be called from any goroutine.
type Postgres struct {
	options  PostgresOptions
	programs programs
	major    string // the version that made the cluster
	account  *account
	password string

	mu     sync.Mutex
	server server
}

// StartPostgres starts the cluster in o.Dir, making it first if there is none, and stopping a server that an earlier
// process may have left on it. When it returns, the server answers and the database [Database] exists. If another
// process uses the folder the error is a [*LockedError]; without programs it is [ErrNoPostgres].
func StartPostgres(ctx context.Context, o PostgresOptions) (*Postgres, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start postgres: %w", err)
	}
	o.Dir = dir
	p := &Postgres{options: o, server: server{
		name: "postgres", dir: dir, log: o.Log.Named("postgres"), port: o.Port, pinned: o.Port != 0,
		// Fast shutdown first (a smart one would wait for idle clients for ever), then immediate.
		polite: syscall.SIGINT, firm: syscall.SIGQUIT,
	}}
	if err := p.Start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// Start brings a stopped or killed server back, on the same port and data. It does nothing to a running one.
func (p *Postgres) Start(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.server.child.running() {
		return nil
	}
	ctx, cancel := within(ctx, startPatience)
	defer cancel()
	err := p.server.hold()
	if err == nil {
		err = p.start(ctx)
	}
	if err != nil {
		return fmt.Errorf("start postgres in %s: %w", p.options.Dir, errors.Join(err, p.server.release()))
	}
	return nil
}

func (p *Postgres) start(ctx context.Context) error {
	if err := p.prepare(ctx); err != nil {
		return err
	}
	old := leftover{
		pidFile: p.pidFile(), program: "postgres", dir: p.cluster(), polite: syscall.SIGINT, firm: syscall.SIGQUIT,
	}
	if err := old.clear(ctx); err != nil {
		return err
	}
	folder, err := os.Open(p.cluster())
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // only lent to the child
	if err := p.server.launch(ctx, func(port int) (command, error) { return p.command(folder, port), nil }, p.ready); err != nil {
		return err
	}
	if err := p.ensureDatabase(ctx); err != nil {
		return errors.Join(err, p.server.kill())
	}
	return nil
}

// URL is the superuser's, with the database [Database].
func (p *Postgres) URL() string { return p.url(Database) }

func (p *Postgres) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, p.password), Host: address(p.Port()),
		Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// Port is where it listens, on 127.0.0.1 only. It stays the same over restarts.
func (p *Postgres) Port() int { return p.server.port }

// Exited is closed when the running server has ended, by our wish or not.
func (p *Postgres) Exited() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.exited()
}

// Stop shuts the server down in order and gives the folder back: clients are cut off, what is committed is on disk.
// When ctx ends first (without a deadline: after 15 s), the server is stopped hard, which loses nothing either but is
// reported. A second Stop does nothing.
func (p *Postgres) Stop(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := errors.Join(p.server.halt(ctx), p.server.release()); err != nil {
		return fmt.Errorf("stop postgres: %w", err)
	}
	return nil
}

// Restart stops the server in order and starts it again on the same port.
func (p *Postgres) Restart(ctx context.Context) error {
	if err := p.Stop(ctx); err != nil {
		return err
	}
	return p.Start(ctx)
}

// Kill is kill -9 of the server, for tests of a crash. Start brings it back.
func (p *Postgres) Kill() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.server.kill()
}

func (p *Postgres) cluster() string { return filepath.Join(p.options.Dir, "data") }
func (p *Postgres) pidFile() string { return filepath.Join(p.cluster(), "postmaster.pid") }

// firstFile is the number that a child sees the first inherited file under.
const firstFile = 3

func (p *Postgres) command(folder *os.File, port int) command {
	c := command{
		path: p.programs.path("postgres"), dir: "/", account: p.account, dieWith: syscall.SIGINT,
		output: newOutput(p.server.log, postgresLevel),
	}
	if p.options.Fast {
		c.dieWith = syscall.SIGQUIT // there is nothing to save
	}
	data := p.cluster()
	if p.account != nil {
		data, c.files = handoff(data, firstFile), []*os.File{folder}
	}
	c.args = []string{"-D", data}
	for _, setting := range p.settings(port) {
		c.args = append(c.args, "-c", setting)
	}
	return c
}

func (p *Postgres) settings(port int) []string {
	settings := map[string]string{
		"port":                    strconv.Itoa(port),
		"listen_addresses":        loopback,
		"unix_socket_directories": "",
		"cluster_name":            Database,
		"max_connections":         "100",
		"jit":                     "off", // it slows short queries down
		"log_destination":         "stderr",
		"logging_collector":       "off",
		"log_line_prefix":         "", // our log has a clock of its own
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"wal_level":               "minimal", // nobody replicates a laptop
		"max_wal_senders":         "0",
	}
	if p.options.Fast {
		for _, name := range []string{"fsync", "synchronous_commit", "full_page_writes"} {
			settings[name] = "off"
		}
		settings["shared_buffers"] = "32MB"
		settings["autovacuum_max_workers"] = "1"
	}
	if version, err := strconv.Atoi(p.major); err == nil && version >= 14 {
		settings["recovery_init_sync_method"] = recoverySync
	}
	maps.Copy(settings, p.options.Settings)
	list := make([]string, 0, len(settings))
	for name, value := range settings {
		list = append(list, name+"="+value)
	}
	slices.Sort(list)
	return list
}

// ready reads what pg_ctl reads: the postmaster's own word in its pid file. It costs no connection.
func (p *Postgres) ready(_ context.Context, child *child) bool {
	text, err := os.ReadFile(p.pidFile())
	if err != nil {
		return false // not written yet
	}
	lines := strings.Split(string(text), "\n")
	const statusLine = 7
	return len(lines) > statusLine && lines[0] == strconv.Itoa(child.pid()) &&
		strings.TrimSpace(lines[statusLine]) == "ready"
}

// ensureDatabase is also the proof that this is our server: nobody else knows the password.
func (p *Postgres) ensureDatabase(ctx context.Context) error {
	conn, err := pgconn.Connect(ctx, p.url("postgres"))
	if err != nil {
		return fmt.Errorf("log in: %w", err)
	}
	results, err := conn.Exec(ctx, "SELECT FROM pg_database WHERE datname = '"+Database+"'").ReadAll()
	if err == nil && len(results[0].Rows) == 0 {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+Database).ReadAll()
	}
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("create database %s: %w", Database, err)
	}
	return nil
}

// postgresLevel leaves ERROR at debug: the client that caused it is told, and it is the client's to report.
func postgresLevel(line string) zapcore.Level {
	for _, severe := range []string{"WARNING:", "FATAL:", "PANIC:"} {
		if strings.HasPrefix(line, severe) {
			return zapcore.WarnLevel
		}
	}
	return zapcore.DebugLevel
}
