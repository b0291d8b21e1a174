package source

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgtype"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/egress"
)

func init() {
	registerSQL(Provider{
		Name: "postgres", Aliases: []string{"postgresql"},
		Description: "PostgreSQL and what speaks its protocol; postgresql+asyncpg:// is accepted too",
	}, postgres{})
}

// postgres reads from PostgreSQL.
type postgres struct{}

func (postgres) schemes() []string { return []string{"postgres", "postgresql"} }

// postgresDSN gives every setting that pgx would otherwise take from the platform's own
// environment or home directory a value of its own.
func postgresDSN(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("the connection string is not a URL")
	}
	if u.Hostname() == "" || strings.Contains(u.Host, ",") {
		return "", errors.New("the connection string must name one host")
	}
	if u.User.Username() == "" {
		return "", errors.New("the connection string names no user")
	}
	q := u.Query()
	for _, key := range []string{"service", "servicefile", "passfile", "host", "port", "hostaddr"} {
		if q.Has(key) {
			return "", fmt.Errorf("the connection string may not set %s", key)
		}
	}
	if q.Has("ssl") { // how asyncpg spells sslmode
		q.Set("sslmode", sslMode(q.Get("ssl")))
		q.Del("ssl")
	}
	defaults := map[string]string{
		"sslmode": "prefer", "application_name": "agentflow", "connect_timeout": "10",
		"target_session_attrs": "any", "sslcert": "", "sslkey": "", "sslrootcert": "", "sslpassword": "",
		"options": "", "timezone": "UTC", "passfile": "/nonexistent",
	}
	for key, value := range defaults {
		if !q.Has(key) {
			q.Set(key, value)
		}
	}
	if _, has := u.User.Password(); !has {
		u.User = url.UserPassword(u.User.Username(), "")
		q.Set("password", "")
	}
	if u.Port() == "" {
		u.Host += ":5432"
	}
	if strings.Trim(u.Path, "/") == "" {
		u.Path = "/" + u.User.Username()
	}
	u.RawQuery = q.Encode()
	return u.String(), nil
}

func sslMode(ssl string) string {
	switch ssl {
	case "true", "True", "1":
		return "require"
	case "false", "False", "0":
		return "disable"
	}
	return ssl
}

func (postgres) open(c *call, dsn string, knobs poolKnobs) (sqlPool, error) {
	full, err := postgresDSN(dsn)
	if err != nil {
		return nil, c.invalid("%s", err.Error())
	}
	config, err := pgxpool.ParseConfig(full)
	if err != nil {
		return nil, c.invalid("the connection string cannot be read: %s", excerpt(err.Error()))
	}
	config.MaxConns = int32(min(knobs.size+knobs.overflow, 2000)) //nolint:gosec // bounded
	config.MaxConnIdleTime = 5 * time.Minute
	config.MaxConnLifetime = time.Hour
	config.ConnConfig.DialFunc = c.guard.DialContext
	// pgx would resolve the name itself and dial addresses: the guard must see the name.
	config.ConnConfig.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	config.ConnConfig.MaxProtocolMessageBodyLen = int(c.cfg.MaxResponseBytes) + 1<<20
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, c.invalid("the connection string cannot be used: %s", excerpt(err.Error()))
	}
	return &postgresPool{pool: pool, wait: knobs.wait}, nil
}

type postgresPool struct {
	pool *pgxpool.Pool
	wait time.Duration
}

func (*postgresPool) dialect() dialect {
	return dialect{name: "postgres", numbered: true, dollarQuotes: true, nested: true}
}

func (p *postgresPool) close() error {
	p.pool.Close()
	return nil
}

func (p *postgresPool) query(ctx context.Context, c *call, s statement, limit int, timeout time.Duration) ([]map[string]any, error) {
	waitCtx, cancel := context.WithTimeout(ctx, p.wait)
	conn, err := p.pool.Acquire(waitCtx)
	cancel()
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			return nil, &Error{Class: ClassTimeout, Code: "pool_timeout", Message: "no connection became free within pool_timeout; raise pool_size or max_overflow", cause: err}
		}
		return nil, postgresError(err)
	}
	defer conn.Release()
	q := postgresQuery{conn: conn.Conn().PgConn(), types: conn.Conn().TypeMap(), maxBytes: c.cfg.MaxResponseBytes}
	rows, err := q.run(ctx, s, limit, timeout)
	if err != nil {
		return nil, postgresError(err)
	}
	return rows, nil
}

// postgresQuery is one statement on one connection.
type postgresQuery struct {
	conn     *pgconn.PgConn
	types    *pgtype.Map
	maxBytes int64
}

// run reads inside a transaction that is rolled back whatever happens: that also undoes any
// setting the statement made.
func (q postgresQuery) run(ctx context.Context, s statement, limit int, timeout time.Duration) (rows []map[string]any, err error) {
	// Text output depends on settings; these make it the same everywhere.
	begin := "BEGIN READ ONLY; SET LOCAL statement_timeout = " + strconv.FormatInt(max(timeout.Milliseconds(), 1), 10) +
		"; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'iso_8601'; SET LOCAL TimeZone = 'UTC'" +
		"; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL standard_conforming_strings = on"
	if _, err := q.conn.Exec(ctx, begin).ReadAll(); err != nil {
		return nil, err
	}
	defer func() {
		// The caller may be gone; the connection must not keep its transaction. A connection that
		// cannot roll back is broken, and the pool drops it.
		undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if _, undoErr := q.conn.Exec(undo, "ROLLBACK").ReadAll(); undoErr != nil {
			closeErr := q.conn.Close(undo)
			if err == nil {
				rows, err = nil, errors.Join(undoErr, closeErr)
			}
		}
	}()
	args, err := q.args(ctx, s)
	if err != nil {
		return nil, err
	}
	text := s.text
	if declarable(text) {
		// A cursor lets the server stop after the rows that are wanted.
		if err := q.discard(ctx, "DECLARE agentflow NO SCROLL CURSOR FOR "+text, args); err != nil {
			return nil, err
		}
		text, args = "FETCH FORWARD "+strconv.Itoa(limit)+" FROM agentflow", nil
	}
	return q.read(ctx, text, args, limit)
}

// declarable tells whether a cursor can be declared for the statement.
func declarable(text string) bool {
	word := strings.ToLower(strings.TrimLeft(text, " \t\r\n(")) + " "
	for _, reader := range []string{"select", "with", "values", "table"} {
		if strings.HasPrefix(word, reader) && !wordByte(word[len(reader)]) {
			return true
		}
	}
	return false
}

func (q postgresQuery) discard(ctx context.Context, text string, args [][]byte) error {
	return q.conn.ExecParams(ctx, text, args, nil, nil, nil).Read().Err
}

func (q postgresQuery) read(ctx context.Context, text string, args [][]byte, limit int) ([]map[string]any, error) {
	result := q.conn.ExecParams(ctx, text, args, nil, nil, nil)
	rows := []map[string]any{}
	var size int64
	var failed error
	for result.NextRow() {
		if failed != nil || len(rows) >= limit {
			continue // the protocol wants the rest read
		}
		fields := result.FieldDescriptions()
		row := make(map[string]any, len(fields))
		for i, raw := range result.Values() {
			size += int64(len(raw))
			value, err := q.value(fields[i].DataTypeOID, raw)
			if err != nil {
				failed = fmt.Errorf("column %s: %w", fields[i].Name, err)
				break
			}
			row[columnName(row, fields[i].Name)] = value
		}
		if size > q.maxBytes {
			failed = &egress.TooLargeError{Limit: q.maxBytes}
		}
		rows = append(rows, row)
	}
	if _, err := result.Close(); err != nil {
		return nil, err
	}
	return rows, failed
}

// columnName keeps columns apart that have the same name, as in SELECT a.id, b.id.
func columnName(row map[string]any, name string) string {
	if _, taken := row[name]; !taken {
		return name
	}
	for n := 2; ; n++ {
		numbered := name + "_" + strconv.Itoa(n)
		if _, taken := row[numbered]; !taken {
			return numbered
		}
	}
}

// args writes the parameters as text, which the server reads as the type it infers. Lists are
// the one case where we must know that type: an array and a JSON list are written differently.
func (q postgresQuery) args(ctx context.Context, s statement) ([][]byte, error) {
	var oids []uint32
	out := make([][]byte, len(s.args))
	for i, arg := range s.args {
		switch arg := arg.(type) {
		case nil:
			continue
		case []any:
			if oids == nil {
				described, err := q.conn.Prepare(ctx, "", s.text, nil)
				if err != nil {
					return nil, err
				}
				oids = described.ParamOIDs
			}
			if i < len(oids) && q.isArray(oids[i]) {
				literal, err := arrayLiteral(arg)
				if err != nil {
					return nil, err
				}
				out[i] = []byte(literal)
				continue
			}
		}
		text, err := workflow.Text(arg)
		if err != nil {
			return nil, &Error{Class: ClassInvalid, Message: "a parameter is not a JSON value", cause: err}
		}
		if strings.ContainsRune(text, 0) {
			return nil, &Error{Class: ClassInvalid, Message: "a parameter holds a zero byte, which Postgres text cannot"}
		}
		out[i] = []byte(text)
	}
	return out, nil
}

func (q postgresQuery) isArray(oid uint32) bool {
	t, ok := q.types.TypeForOID(oid)
	if !ok {
		return false
	}
	_, ok = t.Codec.(*pgtype.ArrayCodec)
	return ok
}

// arrayLiteral writes a list the way Postgres reads arrays: {"a",NULL,{"b"}}.
func arrayLiteral(list []any) (string, error) {
	var b strings.Builder
	b.WriteByte('{')
	for i, item := range list {
		if i > 0 {
			b.WriteByte(',')
		}
		switch item := item.(type) {
		case nil:
			b.WriteString("NULL")
		case []any:
			inner, err := arrayLiteral(item)
			if err != nil {
				return "", err
			}
			b.WriteString(inner)
		default:
			text, err := workflow.Text(item)
			if err != nil {
				return "", err
			}
			b.WriteByte('"')
			b.WriteString(strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text))
			b.WriteByte('"')
		}
	}
	b.WriteByte('}')
	return b.String(), nil
}

// postgresError gives an error of the server or the driver its class.
func postgresError(err error) error {
	var own *Error
	if errors.As(err, &own) {
		return own
	}
	var pg *pgconn.PgError
	var long *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &long) {
		return &Error{Class: ClassTooLarge, Message: "one row is larger than an answer may be; select less", cause: err}
	}
	var connect *pgconn.ConnectError
	if !errors.As(err, &pg) {
		if errors.As(err, &connect) && connect.Unwrap() != nil {
			return connect.Unwrap() // the same without the user and the database, which came from a secret
		}
		return err // the network's: its class comes from the error itself
	}
	e := &Error{Class: ClassInvalid, Code: pg.Code, Message: "postgres: " + pg.Message, Excerpt: pg.Hint, cause: err}
	switch {
	case pg.Code == "57014":
		e.Class, e.Message = ClassTimeout, "postgres ended the statement: it took longer than timeout"
	case pg.Code == "25006":
		e.Message = "a db node only reads, and this statement writes: " + pg.Message
	case strings.HasPrefix(pg.Code, "28"):
		e.Class, e.Message = ClassAuth, "postgres refused the login: check the user and password in the connection string"
	case pg.Code == "42501":
		e.Class, e.Message = ClassAuth, "the database user may not do this: "+pg.Message
	case pg.Code == "53300" || pg.Code == "57P03" || strings.HasPrefix(pg.Code, "08") || strings.HasPrefix(pg.Code, "57P"),
		strings.HasPrefix(pg.Code, "53"), strings.HasPrefix(pg.Code, "58"), strings.HasPrefix(pg.Code, "XX"):
		e.Class = Class5xx
	case pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "55P03":
		e.Class = Class5xx // worth another try
	}
	return e
}

var _ sqlAdapter = postgres{}
