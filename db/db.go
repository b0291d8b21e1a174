// Package db is the schema of the platform's Postgres: the migrations, and what applies them.
//
// Everything lives in one schema, agentflow, whose names the migrations leave unqualified: the
// same files build the live schema and the fresh one that a replay fills. Who works on the rows,
// and how, is the business of services/catalog alone.
package db

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/amacneil/dbmate/v2/pkg/dbmate"
	"github.com/amacneil/dbmate/v2/pkg/driver/postgres"
	"github.com/lib/pq"
)

// Schema holds every table of the platform.
const Schema = "agentflow"

// lockTimeout bounds how long a migration may stand in the way of the services: a statement that
// waits for a lock makes everyone who comes after it wait too.
const lockTimeout = 10 * time.Second

// migrationLock is the advisory lock that every migrating process takes: dbmate itself looks at
// what is applied and then applies, without a lock around both.
const migrationLock = 0x41464d49 // "AFMI"

//go:embed migrations/*.sql
var migrations embed.FS

// Options of a run. The zero value migrates the live schema and says nothing.
type Options struct {
	Schema string    // "" means Schema
	Log    io.Writer // one line per migration; nil discards
}

// Migration is one file and whether it is applied.
type Migration struct {
	File    string
	Applied bool
}

// Migrate applies what is missing, in order, each file in a transaction of its own. Several
// processes may call it at once. A migration that has begun is finished even when ctx ends.
func Migrate(ctx context.Context, databaseURL string, o Options) error {
	return locked(ctx, databaseURL, o, "migrate", func(mate *dbmate.DB) error { return mate.Migrate() })
}

// Down takes back the last steps migrations; a negative number takes back all.
func Down(ctx context.Context, databaseURL string, steps int, o Options) error {
	return locked(ctx, databaseURL, o, "migrate down", func(mate *dbmate.DB) error {
		for ; steps != 0; steps-- {
			if err := ctx.Err(); err != nil {
				return err
			}
			err := mate.Rollback()
			if errors.Is(err, dbmate.ErrNoRollback) {
				if steps < 0 {
					return nil
				}
				return errors.New("no migration is applied")
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Status lists the migrations in order.
func Status(ctx context.Context, databaseURL string, o Options) ([]Migration, error) {
	var list []Migration
	err := locked(ctx, databaseURL, o, "migration status", func(mate *dbmate.DB) error {
		found, err := mate.FindMigrations()
		if err != nil {
			return err
		}
		for _, m := range found {
			list = append(list, Migration{File: m.FileName, Applied: m.Applied})
		}
		return nil
	})
	return list, err
}

func locked(ctx context.Context, databaseURL string, o Options, what string, fn func(*dbmate.DB) error) error {
	if o.Schema == "" {
		o.Schema = Schema
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	err := func() (err error) {
		u, pool, err := open(ctx, databaseURL)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pool.Close()) }()
		conn, err := pool.Conn(ctx)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, conn.Close()) }()
		if _, err := conn.ExecContext(ctx, "select pg_advisory_lock($1)", migrationLock); err != nil {
			return fmt.Errorf("wait for another migration: %w", err)
		}
		if _, err := conn.ExecContext(ctx, "create schema if not exists "+pq.QuoteIdentifier(o.Schema)); err != nil {
			return fmt.Errorf("create schema %s: %w", o.Schema, err)
		}
		return fn(mate(u, o))
	}()
	if err != nil {
		return fmt.Errorf("%s: %w", what, plain(err))
	}
	return nil
}

func mate(u *url.URL, o Options) *dbmate.DB {
	target := *u
	q := target.Query()
	q.Set("search_path", o.Schema+",pg_temp") // functions that pin it must not look into pg_temp first
	q.Set("lock_timeout", fmt.Sprintf("%dms", lockTimeout.Milliseconds()))
	target.RawQuery = q.Encode()
	m := dbmate.New(&target)
	m.FS, m.MigrationsDir = migrations, []string{"migrations"}
	m.AutoDumpSchema = false
	m.Strict = true
	m.Log = o.Log
	return m
}

// The driver registers itself when it is imported; naming it here says so.
var _ = postgres.NewDriver

// plain gives what Postgres said beside the message: which statement, and what to do.
func plain(err error) error {
	var perr *pq.Error
	if errors.As(err, &perr) && (perr.Detail != "" || perr.Hint != "") {
		return fmt.Errorf("%w (%s %s)", err, perr.Detail, perr.Hint)
	}
	return err
}

// open connects with the URL in the form that lib/pq understands.
func open(ctx context.Context, databaseURL string) (*url.URL, *sql.DB, error) {
	normal, err := Normalize(databaseURL)
	if err != nil {
		return nil, nil, err
	}
	u, err := url.Parse(normal)
	if err != nil {
		return nil, nil, errors.New("the database URL cannot be read") // err would repeat the password
	}
	q := u.Query()
	for key := range q {
		if strings.HasPrefix(key, "pool_") {
			q.Del(key) // pgxpool's own
		}
	}
	modes := []string{q.Get("sslmode")}
	if slices.Contains([]string{"", "prefer", "allow"}, modes[0]) {
		modes = []string{"require", "disable"} // lib/pq cannot prefer
	}
	for _, mode := range modes {
		q.Set("sslmode", mode)
		u.RawQuery = q.Encode()
		var pool *sql.DB
		if pool, err = sql.Open("postgres", u.String()); err != nil {
			return nil, nil, fmt.Errorf("open database: %w", err)
		}
		if err = pool.PingContext(ctx); err == nil {
			return u, pool, nil
		}
		_ = pool.Close() // nothing was opened
		if !errors.Is(err, pq.ErrSSLNotSupported) {
			break
		}
	}
	return nil, nil, fmt.Errorf("connect to %s: %w", u.Host, err)
}

// Normalize turns the spellings of a Postgres URL that other tools use into the one that every Go
// driver understands: postgresql+asyncpg://…?ssl=require becomes postgres://…?sslmode=require.
func Normalize(databaseURL string) (string, error) {
	scheme, rest, ok := strings.Cut(strings.TrimSpace(databaseURL), "://")
	if !ok {
		return "", errors.New("the database URL must look like postgres://user:password@host:5432/name")
	}
	base, _, _ := strings.Cut(strings.ToLower(scheme), "+")
	if base != "postgres" && base != "postgresql" {
		return "", fmt.Errorf("the database URL must begin with postgres:// or postgresql://, not %s://", scheme)
	}
	u, err := url.Parse("postgres://" + rest)
	if err != nil {
		return "", errors.New("the database URL cannot be read: a password with special characters must be percent-encoded")
	}
	q := u.Query()
	if mode := q.Get("ssl"); mode != "" {
		q.Del("ssl")
		switch strings.ToLower(mode) {
		case "true", "1":
			mode = "require"
		case "false", "0":
			mode = "disable"
		}
		if q.Get("sslmode") == "" {
			q.Set("sslmode", mode)
		}
		u.RawQuery = q.Encode()
	}
	return u.String(), nil
}

// Ping tells whether a database answers, and lets the URL in.
func Ping(ctx context.Context, databaseURL string) error {
	_, pool, err := open(ctx, databaseURL)
	if err != nil {
		return err
	}
	return pool.Close()
}
