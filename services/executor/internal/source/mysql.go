package source

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/executor/internal/egress"
)

func init() {
	registerSQL(Provider{
		Name: "mysql", Aliases: []string{"mariadb"},
		Description: "MySQL and MariaDB; mysql+aiomysql:// is accepted too",
	}, mySQL{})
}

// mySQL reads from MySQL and MariaDB.
type mySQL struct{}

func (mySQL) schemes() []string { return []string{"mysql", "mariadb"} }

// mysqlConfig reads a URL. Nothing that would read a file, send a password in clear or run more
// than one statement can be switched on in it.
func mysqlConfig(dsn string) (*mysql.Config, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return nil, errors.New("the connection string is not a URL")
	}
	if u.Hostname() == "" {
		return nil, errors.New("the connection string names no host")
	}
	config := mysql.NewConfig()
	config.User = u.User.Username()
	config.Passwd, _ = u.User.Password()
	config.Net = "tcp"
	config.Addr = u.Host
	if u.Port() == "" {
		config.Addr += ":3306"
	}
	config.DBName = strings.Trim(u.Path, "/")
	config.Timeout = 10 * time.Second
	config.Collation = "utf8mb4_general_ci"
	config.MultiStatements = false
	config.AllowAllFiles = false
	config.AllowCleartextPasswords = false
	config.InterpolateParams = false
	config.Logger = &mysql.NopLogger{}
	config.Params = map[string]string{"time_zone": "'+00:00'"}
	switch mode := first(u.Query().Get("tls"), u.Query().Get("ssl")); mode {
	case "", "preferred":
		config.TLSConfig = "preferred"
	case "true", "require", "verify-full":
		config.TLSConfig = "true"
	case "skip-verify":
		config.TLSConfig = "skip-verify"
	case "false", "disable":
		config.TLSConfig = "false"
	default:
		return nil, fmt.Errorf("tls=%.20q is not one of true, preferred, skip-verify, false", mode)
	}
	return config, nil
}

func (mySQL) open(c *call, dsn string, knobs poolKnobs) (sqlPool, error) {
	config, err := mysqlConfig(dsn)
	if err != nil {
		return nil, c.invalid("%s", err.Error())
	}
	config.DialFunc = c.guard.DialContext
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, c.invalid("the connection string cannot be used: %s", excerpt(err.Error()))
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(knobs.size + knobs.overflow)
	db.SetMaxIdleConns(knobs.size)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour)
	return &mysqlPool{db: db, wait: knobs.wait}, nil
}

type mysqlPool struct {
	db   *sql.DB
	wait time.Duration

	mu      sync.Mutex
	limiter string // the statement that sets the server's time limit, once it is known
}

func (*mysqlPool) dialect() dialect {
	return dialect{name: "mysql", backslash: true, doubleStrings: true, hashComments: true, spacedDashes: true}
}

func (p *mysqlPool) close() error { return p.db.Close() }

func (p *mysqlPool) query(ctx context.Context, c *call, s statement, limit int, timeout time.Duration) ([]map[string]any, error) {
	args, err := mysqlArgs(s.args)
	if err != nil {
		return nil, err
	}
	waitCtx, cancel := context.WithTimeout(ctx, p.wait)
	conn, err := p.db.Conn(waitCtx)
	cancel()
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && p.db.Stats().InUse > 0 {
			return nil, &Error{Class: ClassTimeout, Code: "pool_timeout", Message: "no connection became free within pool_timeout; raise pool_size or max_overflow", cause: err}
		}
		return nil, mysqlError(err)
	}
	rows, err := p.transaction(ctx, conn, s.text, args, mysqlBounds{rows: limit, bytes: c.cfg.MaxResponseBytes, timeout: timeout})
	if closeErr := conn.Close(); err == nil && !errors.Is(closeErr, sql.ErrConnDone) {
		err = closeErr
	}
	if err != nil {
		return nil, mysqlError(err)
	}
	return rows, nil
}

// mysqlBounds is what a statement may take.
type mysqlBounds struct {
	rows    int
	bytes   int64
	timeout time.Duration
}

// transaction reads, and rolls back whatever happens.
func (p *mysqlPool) transaction(ctx context.Context, conn *sql.Conn, text string, args []any, most mysqlBounds) ([]map[string]any, error) {
	if err := p.limit(ctx, conn, most); err != nil {
		return nil, err
	}
	tx, err := conn.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	rows, whole, err := mysqlRead(ctx, tx, text, args, most)
	// Where more was to come the connection has been given up, and there is nothing to roll back.
	if undo := tx.Rollback(); err == nil && whole && !errors.Is(undo, sql.ErrTxDone) {
		err = undo
	}
	return rows, err
}

// mysqlRead runs one statement. It is not whole when the server had more to send.
func mysqlRead(ctx context.Context, tx *sql.Tx, text string, args []any, most mysqlBounds) (rows []map[string]any, whole bool, err error) {
	// A prepared statement is one statement by the protocol, with or without parameters.
	prepared, err := tx.PrepareContext(ctx, text)
	if err != nil {
		return nil, true, err
	}
	defer func() { _ = prepared.Close() }() // the connection forgets it in any case
	reading, giveUp := context.WithCancel(ctx)
	defer giveUp()
	got, err := prepared.QueryContext(reading, args...)
	if err != nil {
		return nil, true, err
	}
	rows, err = mysqlRows(got, most)
	if err != nil || got.Next() {
		// The driver would read the rest before it closes, however long that is.
		giveUp()
		_ = got.Close() // it says that it was given up
		return rows, false, err
	}
	if err := got.Close(); err != nil {
		return nil, true, err
	}
	return rows, true, nil
}

// limit tells the server itself where to stop. MySQL and MariaDB spell the time differently, and
// count differently.
func (p *mysqlPool) limit(ctx context.Context, conn *sql.Conn, most mysqlBounds) error {
	p.mu.Lock()
	limiter := p.limiter
	p.mu.Unlock()
	if limiter == "" {
		var version string
		if err := conn.QueryRowContext(ctx, "SELECT VERSION()").Scan(&version); err != nil {
			return err
		}
		limiter = "SET SESSION sql_select_limit = %d, SESSION max_execution_time = %d"
		if strings.Contains(strings.ToLower(version), "mariadb") {
			limiter = "SET SESSION sql_select_limit = %d, SESSION max_statement_time = %d / 1000"
		}
		p.mu.Lock()
		p.limiter = limiter
		p.mu.Unlock()
	}
	_, err := conn.ExecContext(ctx, fmt.Sprintf(limiter, most.rows, max(most.timeout.Milliseconds(), 1)))
	return err
}

func mysqlArgs(args []any) ([]any, error) {
	out := make([]any, len(args))
	for i, arg := range args {
		switch arg := arg.(type) {
		case nil:
			out[i] = nil
		case bool:
			out[i] = arg
		case json.Number:
			if n, err := arg.Int64(); err == nil {
				out[i] = n
				continue
			}
			out[i] = arg.String()
		default:
			text, err := workflow.Text(arg)
			if err != nil {
				return nil, &Error{Class: ClassInvalid, Message: "a parameter is not a JSON value", cause: err}
			}
			out[i] = text
		}
	}
	return out, nil
}

func mysqlRows(got *sql.Rows, most mysqlBounds) ([]map[string]any, error) {
	kinds, err := got.ColumnTypes()
	if err != nil {
		return nil, err
	}
	rows := []map[string]any{}
	values := make([]any, len(kinds))
	cells := make([]any, len(kinds))
	for i := range cells {
		cells[i] = &values[i]
	}
	var size int64
	for len(rows) < most.rows && got.Next() {
		if err := got.Scan(cells...); err != nil {
			return nil, err
		}
		row := make(map[string]any, len(kinds))
		for i, kind := range kinds {
			if raw, ok := values[i].([]byte); ok {
				size += int64(len(raw))
			}
			row[columnName(row, kind.Name())] = mysqlValue(kind.DatabaseTypeName(), values[i])
		}
		if size > most.bytes {
			return nil, &egress.TooLargeError{Limit: most.bytes}
		}
		rows = append(rows, row)
	}
	return rows, got.Err()
}

// mysqlError gives an error of the server or the driver its class.
func mysqlError(err error) error {
	var own *Error
	var my *mysql.MySQLError
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, driver.ErrBadConn), errors.Is(err, mysql.ErrInvalidConn):
		return &Error{Class: ClassNetwork, Code: "tcp", Message: "the connection to mysql broke", cause: err}
	case !errors.As(err, &my):
		return err
	}
	e := &Error{Class: ClassInvalid, Code: strconv.Itoa(int(my.Number)), Message: "mysql: " + my.Message, cause: err}
	switch my.Number {
	case 3024, 1969, 1317:
		e.Class, e.Message = ClassTimeout, "mysql ended the statement: it took longer than timeout"
	case 1792:
		e.Message = "a db node only reads, and this statement writes: " + my.Message
	case 1044, 1045, 1698, 3118:
		e.Class, e.Message = ClassAuth, "mysql refused the login: check the user and password in the connection string"
	case 1142, 1143, 1227, 1370:
		e.Class, e.Message = ClassAuth, "the database user may not do this: "+my.Message
	case 1040, 1053, 1158, 1159, 1160, 1161, 1203, 1205, 1213:
		e.Class = Class5xx
	}
	return e
}

var _ sqlAdapter = mySQL{}
