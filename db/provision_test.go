package db_test

import (
	"net/url"
	"testing"

	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/local/localtest"
)

func TestProvision(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	require.NoError(t, db.Migrate(t.Context(), database, db.Options{}))
	service, err := db.Provision(t.Context(), database, db.Access{})
	require.NoError(t, err)
	again, err := db.Provision(t.Context(), database, db.Access{})
	require.NoError(t, err)
	require.Equal(t, service, again, "the same administrator gives the same login")

	can, err := db.CanBypass(t.Context(), database)
	require.NoError(t, err)
	require.True(t, can)
	can, err = db.CanBypass(t.Context(), service)
	require.NoError(t, err)
	require.False(t, can)

	admin, pool := connect(t, database), connect(t, service)
	fill(t, admin)
	pool.SetMaxOpenConns(1) // settings are the connection's
	exec := func(statement string) error {
		_, err := pool.ExecContext(t.Context(), statement)
		return err
	}
	// A session of the login is a tenant's: it must say which, and sees that one's rows.
	require.ErrorContains(t, exec("select * from tenants"), "app.tenant_id")
	for tenant, seen := range map[string][]string{"acme": {"acme"}, "nobody": nil} {
		require.NoError(t, exec("set app.tenant_id = '"+tenant+"'"))
		require.Equal(t, seen, column(t, pool, "select id from tenants"), tenant)
	}
	require.NoError(t, exec("set app.tenant_id = 'acme'"))
	require.ErrorContains(t, exec("insert into tenants select 'other', name, status, limits, version, created_at, updated_at, revision, last_seq from tenants"),
		"row-level security")
	require.Error(t, exec("set row_security = off; select * from tenants"), "the policies are not the session's to turn off")
	// By itself it has no right at all.
	require.NoError(t, exec("set role none"))
	for _, table := range column(t, admin, "select tablename from pg_tables where schemaname = 'agentflow' order by 1") {
		require.ErrorContains(t, exec("select * from "+table), "permission denied", table)
	}
	// A login of another name, with a password that changes.
	for _, password := range []string{"first's \"%s", "second"} {
		role := "provision_test_login"
		other, err := db.Provision(t.Context(), database, db.Access{Role: role, Password: password})
		require.NoError(t, err)
		require.NoError(t, connect(t, other).PingContext(t.Context()))
	}
	_, err = db.Provision(t.Context(), database, db.Access{Role: mustUser(t, database), Password: "x"})
	require.ErrorContains(t, err, "cannot be the service's")
}

func mustUser(t *testing.T, databaseURL string) string {
	t.Helper()
	u, err := url.Parse(databaseURL)
	require.NoError(t, err)
	return u.User.Username()
}

// An owner who is no superuser can do all of it.
func TestOwnerWithoutSuperpowers(t *testing.T) {
	t.Parallel()
	database := localtest.Postgres(t)
	root := connect(t, database)
	const owner = "plain_owner_test"
	for _, s := range []string{
		"create role " + owner + " login password 'owner' createrole nosuperuser",
		"do $$ begin execute format('grant create on database %I to " + owner + "', current_database()); end $$",
	} {
		_, err := root.ExecContext(t.Context(), s)
		require.NoError(t, err)
	}
	// Roles that another made can be given only by who administers them: a fresh server has none.
	_, err := root.ExecContext(t.Context(), `
		do $$ begin create role agentflow_tenant; exception when duplicate_object then null; end $$;
		do $$ begin create role agentflow_platform; exception when duplicate_object then null; end $$;
		grant agentflow_tenant, agentflow_platform to `+owner+` with admin option`)
	require.NoError(t, err)
	u, err := url.Parse(database)
	require.NoError(t, err)
	u.User = url.UserPassword(owner, "owner")
	require.NoError(t, db.Migrate(t.Context(), u.String(), db.Options{}))
	_, err = db.Provision(t.Context(), u.String(), db.Access{Role: "plain_owner_service"})
	require.NoError(t, err)

	// Forced row level security holds for the owner too.
	pool := connect(t, u.String())
	_, err = pool.ExecContext(t.Context(), "set role none; select * from tenants")
	require.NoError(t, err, "a member of agentflow_platform sees what that role sees")
	require.NoError(t, db.Down(t.Context(), u.String(), -1, db.Options{}))
}
