package source

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func init() {
	registerKind(Kind{
		Kind: "db", Name: "SQL database", Description: "Reads from a database: one statement, in a read-only transaction, with bound parameters.",
		Required: []Field{
			{"connection_string_env", "env", "", "Variable with the connection string; dsn_env is the same"},
		},
		Optional: []Field{
			{"pool_size", "integer", "5", "Connections kept open"},
			{"max_overflow", "integer", "5", "Connections beyond pool_size under load"},
			{"pool_timeout", "number", "30", "Seconds to wait for a connection"},
			{"timeout", "number", "30", "Seconds one statement may take, here and on the server"},
		},
	})
}

// Limits of a query.
const (
	defaultRows = 100
	maxRows     = 100_000
)

// poolKnobs are the settings of a pool, from the source's config.
type poolKnobs struct {
	size     int
	overflow int
	wait     time.Duration
}

func knobsOf(c config) poolKnobs {
	k := poolKnobs{size: 5, overflow: 5, wait: c.seconds("pool_timeout", 30*time.Second)}
	if n, ok := c.integer("pool_size"); ok && n > 0 {
		k.size = min(n, 1000)
	}
	if n, ok := c.integer("max_overflow"); ok && n >= 0 {
		k.overflow = min(n, 1000)
	}
	return k
}

// sqlPool runs statements of one source.
type sqlPool interface {
	// query runs one statement read-only and answers at most limit rows, in JSON-safe values.
	query(ctx context.Context, c *call, s statement, limit int, timeout time.Duration) ([]map[string]any, error)
	dialect() dialect
	close() error
}

// Query runs one read-only statement and answers its rows. Values are JSON-safe: numbers are
// json.Number, timestamps RFC 3339, bytes base64, arrays lists, NULL nil.
func (s *Sources) Query(ctx context.Context, caller Caller, src workflow.Source, req QueryRequest) ([]map[string]any, error) {
	c := s.newCall(caller, src)
	c.provider = "sql"
	limit := req.Limit
	if limit <= 0 {
		limit = defaultRows
	}
	limit = min(limit, maxRows)
	timeout := c.clampTimeout(req.Timeout)
	if timeout <= 0 {
		timeout = defaultTimeout
	}
	var rows []map[string]any
	err := c.run(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, timeout+sqlGrace)
		defer cancel()
		pool, release, err := c.pool()
		if err != nil {
			return err
		}
		defer release()
		st, err := c.bind(req, pool.dialect())
		if err != nil {
			return err
		}
		rows, err = pool.query(ctx, c, st, limit, timeout)
		return err
	})
	if err != nil {
		return nil, err
	}
	return rows, nil
}

// sqlGrace is how much longer we wait than the server was told to work: its own error says more
// than ours.
const sqlGrace = 2 * time.Second

// pool finds or opens the pool of the call's source. The tenant, the connection string and the
// knobs are its identity, so a changed secret opens a new pool and the old one goes idle.
func (c *call) pool() (pool sqlPool, release func(), err error) {
	dsn, adapter, err := c.dsn()
	if err != nil {
		return nil, nil, err
	}
	knobs := knobsOf(c.config)
	return c.pools.get(c.caller.Tenant, poolKeyOf(c.caller.Tenant, c.source.ID, dsn, knobs), func() (sqlPool, error) {
		return adapter.open(c, dsn, knobs)
	})
}

func (c *call) dsn() (string, sqlAdapter, error) {
	field := "connection_string_env"
	name := c.config.text(field)
	if name == "" {
		field, name = "dsn_env", c.config.text("dsn_env")
	}
	if name == "" {
		return "", nil, c.invalid("connection_string_env is missing: name the environment variable that holds the connection string")
	}
	dsn, err := c.secret(field, name, nil)
	if err != nil {
		return "", nil, err
	}
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok {
		return "", nil, c.invalid("the value of %s is not a connection string: it must start with postgres:// or mysql://", name)
	}
	// "postgresql+asyncpg" is how SQLAlchemy spells Postgres through a driver.
	scheme, _, _ = strings.Cut(strings.ToLower(scheme), "+")
	adapter, ok := registered.sql[scheme]
	if !ok {
		return "", nil, c.invalid("the value of %s starts with %s://, which is not a database this platform reads", name, excerpt(scheme))
	}
	dsn = scheme + "://" + rest
	if u, err := url.Parse(dsn); err == nil && u.User != nil {
		// A driver's error may quote a part of the string: the password must be known by itself too.
		password, _ := u.User.Password()
		c.derived(password, dsn)
	}
	return dsn, adapter, nil
}

// probeSQL runs the cheapest statement there is.
func (c *call) probeSQL(ctx context.Context) error {
	pool, release, err := c.pool()
	if err != nil {
		return err
	}
	defer release()
	_, err = pool.query(ctx, c, statement{text: "SELECT 1"}, 1, 5*time.Second)
	return err
}
