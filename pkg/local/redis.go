package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/alicebob/miniredis/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// RedisOptions say where and how a private Redis runs.
type RedisOptions struct {
	Dir string // its working folder; made if need be
	Log *zap.Logger
	// Port 0 stands for the port of the last run if it is free, else for any free one.
	Port int
	// Databases is how many numbered databases it offers; 0 stands for 16.
	Databases int
}

// Redis is a private Redis, or the stand-in for one. Its methods may be called from any goroutine.
//
// It keeps nothing on disk: it holds the state of limits, which refill by themselves, so a restart forgets at most
// one window of use.
type Redis struct {
	options  RedisOptions
	program  string
	password string

	mu      sync.Mutex
	server  server
	standIn *miniredis.Miniredis // instead of server
}

// StartRedis starts a redis-server in o.Dir, stopping one that an earlier process may have left there. When it
// returns, the server answers. If another process uses the folder the error is a [*LockedError]; without a program it
// is [ErrNoRedis].
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Databases == 0 {
		o.Databases = 16
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("start redis: %w", err)
	}
	o.Dir = dir
	program, err := findRedis()
	if err != nil {
		return nil, err
	}
	r := &Redis{options: o, program: program, server: server{
		name: "redis-server", dir: dir, log: o.Log.Named("redis"), port: o.Port, pinned: o.Port != 0,
		polite: syscall.SIGTERM, firm: syscall.SIGKILL,
	}}
	if err := r.Start(ctx); err != nil {
		return nil, err
	}
	return r, nil
}

// Start brings a stopped or killed server back, empty, on the same port. It does nothing to a running one.
func (r *Redis) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		return nil
	}
	if r.server.child.running() {
		return nil
	}
	ctx, cancel := within(ctx, startPatience)
	defer cancel()
	err := r.server.hold()
	if err == nil {
		err = r.start(ctx)
	}
	if err != nil {
		return fmt.Errorf("start redis in %s: %w", r.options.Dir, errors.Join(err, r.server.release()))
	}
	return nil
}

func (r *Redis) start(ctx context.Context) error {
	if r.password == "" {
		var err error
		if r.password, err = password(r.options.Dir); err != nil {
			return err
		}
	}
	program := r.program
	if resolved, err := filepath.EvalSymlinks(program); err == nil {
		program = resolved // the kernel names a process by the file it came from
	}
	old := leftover{
		pidFile: filepath.Join(r.options.Dir, "redis.pid"), program: filepath.Base(program), dir: r.options.Dir,
		polite: syscall.SIGTERM, firm: syscall.SIGKILL,
	}
	if err := old.clear(ctx); err != nil {
		return err
	}
	return r.server.launch(ctx, r.command, r.ready)
}

// command puts the password into a private file, for everybody can read a command line. Paths are relative to the
// folder it runs in, so that none of them needs quoting.
func (r *Redis) command(port int) (command, error) {
	config := fmt.Sprintf(`bind %s
port %d
requirepass %s
databases %d
save ""
appendonly no
maxmemory-policy noeviction
loglevel warning
logfile ""
pidfile redis.pid
daemonize no
`, loopback, port, r.password, r.options.Databases)
	c := command{
		path: r.program, args: []string{"redis.conf"}, dir: r.options.Dir, dieWith: syscall.SIGKILL,
		output: newOutput(r.server.log, redisLevel),
	}
	return c, replaceFile(filepath.Join(r.options.Dir, "redis.conf"), config)
}

// ready logs in: only our server knows the password. Any other answer may be that of a stranger on the port, while ours
// is about to find it taken.
func (r *Redis) ready(ctx context.Context, _ *child) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", address(r.server.port))
	if err != nil {
		return false
	}
	defer func() { _ = conn.Close() }() // its answer is all we want
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return false
	}
	if _, err := fmt.Fprintf(conn, "AUTH %s\r\n", r.password); err != nil {
		return false
	}
	answer, err := bufio.NewReader(conn).ReadString('\n')
	return err == nil && strings.TrimSpace(answer) == "+OK"
}

// URL has the password and database 0.
func (r *Redis) URL() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", r.password), Host: address(r.Port()), Path: "/0"}
	return u.String()
}

// Port is where it listens, on 127.0.0.1 only. It stays the same over restarts.
func (r *Redis) Port() int { return r.server.port }

// StandIn says that this is the built-in stand-in: one that runs in this process, slower, for trying things out.
func (r *Redis) StandIn() bool { return r.standIn != nil }

// Exited is closed when the running server has ended, by our wish or not. A stand-in ends with [Redis.Stop].
func (r *Redis) Exited() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		return r.standIn.Ctx.Done()
	}
	return r.server.exited()
}

// Stop ends the server and gives the folder back. A second Stop does nothing.
func (r *Redis) Stop(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		r.standIn.Close()
		return nil
	}
	if err := errors.Join(r.server.halt(ctx), r.server.release()); err != nil {
		return fmt.Errorf("stop redis: %w", err)
	}
	return nil
}

// Restart stops the server and starts it again, empty, on the same port.
func (r *Redis) Restart(ctx context.Context) error {
	if err := r.Stop(ctx); err != nil {
		return err
	}
	return r.Start(ctx)
}

// Kill is kill -9 of the server, for tests of a crash. Start brings it back.
func (r *Redis) Kill() error { return r.process((*server).kill) }

// Pause suspends the server (SIGSTOP): its connections stay open and nothing answers. For tests of a slow Redis.
func (r *Redis) Pause() error {
	return r.process(func(s *server) error { return s.child.signal(syscall.SIGSTOP) })
}

// Resume wakes a paused server.
func (r *Redis) Resume() error {
	return r.process(func(s *server) error { return s.child.signal(syscall.SIGCONT) })
}

var errNoProcess = errors.New("the built-in Redis stand-in is not a process")

func (r *Redis) process(do func(*server) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.standIn != nil {
		return errNoProcess
	}
	return do(&r.server)
}

// redisLevel: with loglevel warning, what it says after the start is worth hearing.
func redisLevel(string) zapcore.Level { return zapcore.WarnLevel }
