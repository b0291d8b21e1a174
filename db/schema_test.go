package db_test

import (
	"database/sql"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/local/localtest"
)

var update = flag.Bool("update", false, "rewrite schema.sql")

// No table lacks a policy, and all of them bind their owner too.
func TestEveryTableHasAPolicy(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	pool := connect(t, database)
	_, err := pool.ExecContext(t.Context(), "select create_event_partitions('2026-01-01', '2026-01-03')")
	require.NoError(t, err)
	require.Empty(t, column(t, pool, `
		select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and c.relkind in ('r', 'p', 'f', 'm', 'v')
		  and c.relname <> 'schema_migrations' -- the names of files
		  and (not c.relrowsecurity or not c.relforcerowsecurity
		       or not exists (select from pg_policy p where p.polrelid = c.oid))`))
	// Every policy but the platform's asks for the tenant.
	require.Empty(t, column(t, pool, `
		select c.relname || '.' || p.polname from pg_policy p join pg_class c on c.oid = p.polrelid
		join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and pg_get_expr(p.polqual, p.polrelid) not like '%current_tenant()%'
		  and p.polroles <> array['agentflow_platform'::regrole::oid]`))
}

// schema.sql is what the migrations give, for people to read; this holds it to that.
func TestSchemaFile(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	got := describe(t, connect(t, database))
	if *update {
		require.NoError(t, os.WriteFile("schema.sql", []byte(got), 0o600))
	}
	want, err := os.ReadFile("schema.sql")
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run go test ./db -run TestSchemaFile -update")
}

func TestEveryMigrationHasADown(t *testing.T) {
	t.Parallel()
	for _, name := range files(t) {
		text, err := os.ReadFile(filepath.Join("migrations", name))
		require.NoError(t, err)
		up, down, ok := strings.Cut(string(text), "-- migrate:down")
		require.True(t, ok, name)
		require.Contains(t, up, "-- migrate:up", name)
		require.NotEmpty(t, strings.TrimSpace(down), name)
	}
	require.True(t, slices.IsSorted(files(t)))
}

// describe renders the schema from Postgres's own catalog: the same text from every version.
func describe(t *testing.T, pool *sql.DB) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("-- What the migrations give. Written by a test; do not edit.\n")
	tables := column(t, pool, `
		select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
		where n.nspname = 'agentflow' and c.relkind in ('r', 'p')
		  and c.relname !~ '^execution_events_[0-9]+$' order by 1`)
	for _, table := range tables {
		fmt.Fprintf(&b, "\ncreate table %s (\n", table)
		lines := column(t, pool, `
			select format('    %I %s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
			  case when a.attnotnull then ' not null' else '' end,
			  case when a.attgenerated = 's' then ' generated always as (' || pg_get_expr(d.adbin, d.adrelid) || ') stored'
			       when d.adbin is not null then ' default ' || pg_get_expr(d.adbin, d.adrelid) else '' end)
			from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
			where a.attrelid = $1::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum`, table)
		lines = append(lines, column(t, pool, `
			select format('    constraint %I %s', conname, pg_get_constraintdef(oid)) from pg_constraint
			where conrelid = $1::regclass and contype <> 'n' order by conname`, table)...)
		b.WriteString(strings.Join(lines, ",\n"))
		b.WriteString("\n)")
		for _, s := range column(t, pool, `
			select coalesce(' partition by ' || pg_get_partkeydef(c.oid), '')
			  || case when c.relispartition then ' partition of ' || (select inhparent::regclass::text from pg_inherits where inhrelid = c.oid)
			     || ' ' || pg_get_expr(c.relpartbound, c.oid) else '' end
			from pg_class c where c.oid = $1::regclass`, table) {
			b.WriteString(s)
		}
		b.WriteString(";\n")
		for _, s := range column(t, pool, `
			select pg_get_indexdef(i.indexrelid) from pg_index i
			where i.indrelid = $1::regclass and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
			order by i.indexrelid::regclass::text`, table) {
			fmt.Fprintf(&b, "%s;\n", s)
		}
		for _, s := range column(t, pool, `
			select case when relrowsecurity then format('alter table %I enable row level security;', relname) else '' end
			  || case when relforcerowsecurity then format(E'\nalter table %I force row level security;', relname) else '' end
			from pg_class where oid = $1::regclass and relrowsecurity`, table) {
			fmt.Fprintf(&b, "%s\n", s)
		}
		for _, s := range column(t, pool, `
			select format('create policy %I on %I to %s using (%s)%s;', p.polname, $1::text,
			  (select string_agg(case r when 0 then 'public' else r::regrole::text end, ', ' order by r) from unnest(p.polroles) r),
			  pg_get_expr(p.polqual, p.polrelid), coalesce(' with check (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')', ''))
			from pg_policy p where p.polrelid = $1::regclass order by p.polname`, table) {
			fmt.Fprintf(&b, "%s\n", s)
		}
		for _, s := range column(t, pool, `
			select format('grant %s on %I to %s;', string_agg(lower(privilege_type), ', ' order by privilege_type), $1::text, grantee)
			from information_schema.role_table_grants
			where table_schema = 'agentflow' and table_name = $1 and grantee like 'agentflow%'
			group by grantee order by grantee`, table) {
			fmt.Fprintf(&b, "%s\n", s)
		}
	}
	for _, s := range column(t, pool, `
		select pg_get_functiondef(p.oid) || E'-- execute: ' ||
		  (select coalesce(string_agg(case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ' order by a.grantee::regrole::text), '')
		   from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner) ||
		  case when pg_get_userbyid(p.proowner) like 'agentflow%' then E'\n-- owner: ' || pg_get_userbyid(p.proowner) else '' end
		from pg_proc p join pg_namespace n on n.oid = p.pronamespace where n.nspname = 'agentflow' order by p.proname`) {
		fmt.Fprintf(&b, "\n%s\n", s)
	}
	for _, s := range column(t, pool, "select version from schema_migrations order by 1") {
		fmt.Fprintf(&b, "\n-- migration %s", s)
	}
	b.WriteString("\n")
	return b.String()
}
