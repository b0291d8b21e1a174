package postgres

import (
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local/localtest"
)

// tenantTables are all tables with a tenant's rows, by the column that names it.
func tenantTables(t testing.TB, owner *Store) map[string]string {
	t.Helper()
	rows, err := owner.pool.Query(t.Context(), `
		select c.relname, case when exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id') then 'tenant_id' else 'id' end
		from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and c.relkind in ('r', 'p') and not c.relispartition and c.relname not in ('schema_migrations', 'projection_checkpoints')`)
	require.NoError(t, err)
	tables := map[string]string{}
	var table, column string
	_, err = pgx.ForEachRow(rows, []any{&table, &column}, func() error {
		tables[table] = column
		return nil
	})
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(tables), 12)
	return tables
}

// The third layer alone: SQL that names no tenant sees one tenant's rows, and without the setting
// it is an error.
func TestRowLevelSecurity(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{PoolSize: 1})
	seed(t, owner)
	tables := tenantTables(t, owner)
	for table, column := range tables {
		require.NoError(t, service.Tenant(t.Context(), "beta", func(tx *Tx) error {
			rows, err := tx.tx.Query(t.Context(), "select distinct "+column+" from "+table)
			if err != nil {
				return err
			}
			tenants, err := pgx.CollectRows(rows, pgx.RowTo[string])
			require.Equal(t, []string{"beta"}, tenants, table)
			return err
		}))
		require.NoError(t, service.Platform(t.Context(), func(tx *Tx) error {
			var n int
			err := tx.tx.QueryRow(t.Context(), "select count(distinct "+column+") from "+table).Scan(&n)
			require.Equal(t, 2, n, table)
			return err
		}))
	}
	// The one connection has served a tenant by now: nothing of that is left on it.
	for table := range tables {
		for _, become := range []string{"select 1", "set role agentflow_tenant"} {
			conn, err := service.pool.Acquire(t.Context())
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), become)
			require.NoError(t, err)
			_, err = conn.Exec(t.Context(), "select * from "+table)
			require.Error(t, err, "%s after %q", table, become)
			_, err = conn.Exec(t.Context(), "reset role")
			require.NoError(t, err)
			conn.Release()
		}
	}
	// Writing past the policy fails in every way.
	attacks := map[string]string{
		"a row of another":           "insert into workflow_sources values ('acme', 'x', 'wf_beta')",
		"a row given to another":     "update workflows set tenant_id = 'acme'",
		"the policy":                 "drop policy tenant on workflows",
		"row level security":         "alter table workflows disable row level security",
		"forcing it":                 "alter table workflows no force row level security",
		"passing by it":              "set row_security = off; select * from workflows",
		"the owner's role":           "set role postgres",
		"a right of its own":         "alter role agentflow_service bypassrls",
		"the audit":                  "update audit_log set actor = 'nobody'",
		"deleting the audit":         "delete from audit_log",
		"truncating":                 "truncate workflows",
		"the checkpoints":            "select * from projection_checkpoints",
		"writing executions":         "update executions set status = 'FAILED'",
		"making a table":             "create table agentflow.x (y int)",
		"making a function":          "create function current_tenant() returns text language sql as $$ select 'acme' $$",
		"the partitions of the past": "select drop_event_partition('2020-01-01')",
		"a partition directly":       "select * from execution_events_default",
		"reading the server's files": "select pg_read_file('PG_VERSION')",
		"reading passwords":          "select * from pg_authid",
	}
	for what, sql := range attacks {
		err := service.Tenant(t.Context(), "beta", func(tx *Tx) error {
			_, err := tx.tx.Exec(t.Context(), sql)
			return err
		})
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, what)
		require.Contains(t, []string{"42501", "42P17"}, pg.Code, "%s: %s", what, pg.Message)
	}
	// What affects no row of others, does not.
	require.NoError(t, service.Tenant(t.Context(), "beta", func(tx *Tx) error {
		tag, err := tx.tx.Exec(t.Context(), "update workflows set name = 'mine' where tenant_id = 'acme' or id = 'wf_acme'")
		require.Zero(t, tag.RowsAffected())
		return err
	}))
	require.Error(t, service.Tenant(t.Context(), "", func(*Tx) error { return nil }))
	require.Error(t, service.Tenant(t.Context(), "*", func(*Tx) error { return nil }))
	require.Error(t, service.Tenant(t.Context(), "a'; select 1; --", func(*Tx) error { return nil }))
}

func TestLoginCannotBypass(t *testing.T) {
	t.Parallel()
	service, owner := open(t, localtest.Postgres(t), Config{})
	var super, bypass, inherit, owns bool
	require.NoError(t, service.pool.QueryRow(t.Context(), `
		select r.rolsuper, r.rolbypassrls, r.rolinherit, exists (select from pg_class where relowner = r.oid)
		from pg_roles r where rolname = session_user`).Scan(&super, &bypass, &inherit, &owns))
	require.False(t, super || bypass || inherit || owns)
	// Nor can the roles that it may become.
	var n int
	require.NoError(t, owner.pool.QueryRow(t.Context(), `
		select count(*) from pg_roles where rolname like 'agentflow%' and (rolsuper or rolbypassrls or rolcreaterole or rolcreatedb)`).Scan(&n))
	require.Zero(t, n)
}
