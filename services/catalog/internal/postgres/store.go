package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"go.uber.org/zap"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// ErrUnavailable says that Postgres cannot be asked now: try again.
var ErrUnavailable = errors.New("postgres does not answer")

// Config says how to reach Postgres.
type Config struct {
	URL         string
	Schema      string        // "" means db.Schema
	PoolSize    int           // connections to keep
	Overflow    int           // connections more when they are needed
	PoolTimeout time.Duration // how long to wait for a free connection
	Recycle     time.Duration // age at which a connection is replaced
	Log         *zap.Logger
}

// Store is a pool of connections. It is safe for concurrent use.
type Store struct {
	pool     *pgxpool.Pool
	schema   string
	timeout  time.Duration
	log      *zap.Logger
	timeouts atomic.Int64 // waits for a connection that were given up
}

// pingAfter is how long a connection may have lain idle before it is asked whether it still lives.
const pingAfter = 250 * time.Millisecond

// Open makes the pool. It connects when a connection is needed, so it works while Postgres is away.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	normal, err := db.Normalize(cfg.URL)
	if err != nil {
		return nil, err
	}
	pc, err := pgxpool.ParseConfig(normal)
	if err != nil {
		return nil, fmt.Errorf("database URL: %s", redact(err, normal))
	}
	if cfg.Schema == "" {
		cfg.Schema = db.Schema
	}
	if cfg.Log == nil {
		cfg.Log = zap.NewNop()
	}
	s := &Store{schema: cfg.Schema, timeout: cfg.PoolTimeout, log: cfg.Log}
	if s.timeout <= 0 {
		s.timeout = 30 * time.Second
	}
	pc.MaxConns = int32(max(1, min(cfg.PoolSize+cfg.Overflow, 10_000)))
	pc.MaxConnLifetime = cfg.Recycle
	if pc.MaxConnLifetime <= 0 {
		pc.MaxConnLifetime = time.Hour
	}
	pc.MaxConnLifetimeJitter = pc.MaxConnLifetime / 10
	pc.MaxConnIdleTime = 5 * time.Minute
	pc.HealthCheckPeriod = 15 * time.Second
	pc.PingTimeout = 5 * time.Second
	pc.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > pingAfter }
	if pc.ConnConfig.ConnectTimeout == 0 {
		pc.ConnConfig.ConnectTimeout = 5 * time.Second
	}
	pc.ConnConfig.RuntimeParams["search_path"] = cfg.Schema
	pc.ConnConfig.RuntimeParams["timezone"] = "UTC"
	if pc.ConnConfig.RuntimeParams["application_name"] == "" {
		pc.ConnConfig.RuntimeParams["application_name"] = "agentflow-catalog"
	}
	pc.ConnConfig.Tracer = &tracer{log: cfg.Log}
	pc.AfterConnect = func(_ context.Context, c *pgx.Conn) error {
		cfg.Log.Debug("postgres connection opened", zap.Uint32("pid", c.PgConn().PID()))
		return nil
	}
	pc.BeforeClose = func(c *pgx.Conn) {
		cfg.Log.Debug("postgres connection closed", zap.Uint32("pid", c.PgConn().PID()))
	}
	// The pool lives until Close, not until a context ends.
	if s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), pc); err != nil {
		return nil, fmt.Errorf("open pool: %w", err)
	}
	return s, nil
}

// redact keeps the URL, and with it a password, out of an error's text.
func redact(err error, secret string) string {
	text := strings.ReplaceAll(err.Error(), secret, "postgres://***")
	if u, perr := url.Parse(secret); perr == nil {
		if p, ok := u.User.Password(); ok && p != "" {
			text = strings.ReplaceAll(text, p, "***")
		}
	}
	return text
}

// Close waits until all connections have come back, and closes them.
func (s *Store) Close() { s.pool.Close() }

// Ping asks for a sign of life.
func (s *Store) Ping(ctx context.Context) error { return fault("ping", s.pool.Ping(ctx)) }

func (s *Store) acquire(ctx context.Context) (*pgxpool.Conn, error) {
	wait, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	conn, err := s.pool.Acquire(wait)
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		s.timeouts.Add(1)
		s.log.Warn("no postgres connection became free", zap.Duration("waited", s.timeout))
		return nil, fmt.Errorf("%w: no connection became free within %s", ErrUnavailable, s.timeout)
	}
	return conn, err
}

// platform stands in for a tenant where the work is the whole platform's. It is no tenant's id.
const platform protocol.TenantID = "*"

// identity is the statement that makes a transaction one tenant's, or the platform's.
func identity(t protocol.TenantID) (sql string, err error) {
	if t == platform {
		return "select set_config('role', '" + db.PlatformRole + "', true)", nil
	}
	if err := t.Check(); err != nil {
		return "", err
	}
	// Check has seen to it that there is nothing to quote.
	return "select set_config('role', '" + db.TenantRole + "', true), set_config('app.tenant_id', '" + string(t) + "', true)", nil
}

// read runs queries for one tenant in one round trip and one transaction. A connection that turns
// out to be dead is replaced once: nothing has been written.
func (s *Store) read(ctx context.Context, t protocol.TenantID, queue func(b *pgx.Batch)) error {
	become, err := identity(t)
	if err != nil {
		return err
	}
	ctx = withTenant(ctx, t)
	for again := true; ; again = false {
		b := &pgx.Batch{}
		b.Queue(become)
		queue(b)
		err := s.sendBatch(ctx, b)
		if err != nil && again && broken(err) && ctx.Err() == nil {
			continue
		}
		return fault("read", err)
	}
}

// write is read for statements that add what may be there already: a swap waits for them, and they for it.
func (s *Store) write(ctx context.Context, t protocol.TenantID, queue func(b *pgx.Batch)) error {
	return s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue(s.staying("pg_advisory_xact_lock_shared"))
		queue(b)
	})
}

func (s *Store) sendBatch(ctx context.Context, b *pgx.Batch) error {
	conn, err := s.acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	return conn.SendBatch(ctx, b).Close()
}

// Tx is a transaction of one tenant, or of the platform.
type Tx struct {
	tx     pgx.Tx
	tenant protocol.TenantID
}

// Tenant runs fn in a transaction that sees one tenant's rows. It commits unless fn returns an error.
func (s *Store) Tenant(ctx context.Context, t protocol.TenantID, fn func(*Tx) error) error {
	if t == platform {
		return &protocol.Error{Code: protocol.CodeInvalid, Field: "tenant_id", Message: "no tenant given"}
	}
	return s.transact(ctx, t, "begin", fn)
}

// Platform runs fn in a transaction that sees all rows: for the projector, the janitor and what
// administrators may see, never on a tenant's behalf.
func (s *Store) Platform(ctx context.Context, fn func(*Tx) error) error {
	return s.transact(ctx, platform, "begin", fn)
}

// snapshot is Platform in which every query sees the same moment.
func (s *Store) snapshot(ctx context.Context, fn func(*Tx) error) error {
	return s.transact(ctx, platform, "begin isolation level repeatable read", fn)
}

func (s *Store) transact(ctx context.Context, t protocol.TenantID, begin string, fn func(*Tx) error) error {
	become, err := identity(t)
	if err != nil {
		return err
	}
	ctx = withTenant(ctx, t)
	tx, release, err := s.begin(ctx, begin+"; "+become+"; "+s.staying("pg_advisory_xact_lock_shared"))
	if err != nil {
		return fault("begin", err)
	}
	defer release()
	// After a commit this does nothing; before it, a failure only means that the connection is gone.
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }()
	if err := fn(&Tx{tx: tx, tenant: t}); err != nil {
		return err
	}
	return fault("commit", tx.Commit(ctx))
}

// staying is the lock that keeps the tables of this schema in their place: shared by all who write,
// taken alone by a swap. Without it a transaction could find one table before a swap and the next
// one behind it.
func (s *Store) staying(function string) string {
	const swapping = 0x41465357 // "AFSW"
	return fmt.Sprintf("select %s(%d, hashtext('%s'))", function, swapping, strings.ReplaceAll(s.schema, "'", "''"))
}

func (s *Store) begin(ctx context.Context, statements string) (pgx.Tx, func(), error) {
	for again := true; ; again = false {
		conn, err := s.acquire(ctx)
		if err != nil {
			return nil, nil, err
		}
		// Without arguments both statements go in one message.
		tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: statements})
		if err == nil {
			return tx, conn.Release, nil
		}
		conn.Release()
		if !again || !broken(err) || ctx.Err() != nil {
			return nil, nil, err
		}
	}
}

// broken tells whether the connection rather than the query is at fault.
func broken(err error) bool {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		switch pg.Code {
		case "57P01", "57P02", "57P03", // shutting down, crashed, starting up
			"53300", "53400", // too many connections
			"25006": // a standby that is not promoted yet
			return true
		}
		return strings.HasPrefix(pg.Code, "08")
	}
	var connect *pgconn.ConnectError
	var network net.Error
	return errors.As(err, &connect) || errors.As(err, &network) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}

// fault says what was tried, and marks what only needs another try.
func fault(what string, err error) error {
	if err == nil {
		return nil
	}
	var refusal *protocol.Error
	if errors.As(err, &refusal) || errors.Is(err, ErrUnavailable) {
		return err
	}
	if broken(err) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || transient(err) {
		return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}

// transient tells whether the same transaction may well succeed the next time.
func transient(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	switch pg.Code {
	case "40001", "40P01", "55P03", "57014": // serialization, deadlock, lock timeout, cancelled
		return true
	}
	return false
}

// Exists tells whether an id is anybody's: the difference between "not yours" and "unknown".
func (s *Store) Exists(ctx context.Context, t protocol.TenantID, kind, id string) (bool, error) {
	var exists bool
	err := s.read(ctx, t, func(b *pgx.Batch) {
		b.Queue("select id_exists($1, $2)", kind, id).QueryRow(func(r pgx.Row) error { return r.Scan(&exists) })
	})
	return exists, err
}

// missing is the refusal for an id that the tenant has not.
func (s *Store) missing(ctx context.Context, t protocol.TenantID, kind, id string) error {
	exists, err := s.Exists(ctx, t, kind, id)
	if err != nil {
		return err
	}
	return Missing(kind, id, exists)
}

// Missing is the refusal for an id that a tenant has not: FORBIDDEN when it is another's.
func Missing(kind, id string, exists bool) error {
	if exists {
		return &protocol.Error{Code: protocol.CodeForbidden, Message: fmt.Sprintf("%s %q belongs to another tenant", kind, shorten(id))}
	}
	return &protocol.Error{Code: protocol.CodeNotFound, Message: fmt.Sprintf("there is no %s %q", kind, shorten(id))}
}

func shorten(s string) string {
	const limit = 120
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
