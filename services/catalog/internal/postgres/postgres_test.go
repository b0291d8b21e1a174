package postgres

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/local/localtest"
)

const (
	waitFor = 30 * time.Second
	tick    = 5 * time.Millisecond
)

func TestMain(m *testing.M) { localtest.VerifyTestMain(m) }

// open makes a migrated database and a store with the service's login, and one with the owner's.
func open(t testing.TB, adminURL string, c Config) (service, owner *Store) {
	t.Helper()
	require.NoError(t, db.Migrate(t.Context(), adminURL, db.Options{}))
	url, err := db.Provision(t.Context(), adminURL, db.Access{})
	require.NoError(t, err)
	if c.PoolSize == 0 {
		c.PoolSize = 5
	}
	c.URL = url
	service, err = Open(t.Context(), c)
	require.NoError(t, err)
	t.Cleanup(service.Close)
	owner, err = Open(t.Context(), Config{URL: adminURL, PoolSize: 2})
	require.NoError(t, err)
	t.Cleanup(owner.Close)
	return service, owner
}

// seed gives two tenants a workflow each, and a source.
func seed(t testing.TB, owner *Store) {
	t.Helper()
	for i, tenant := range []string{"acme", "beta"} {
		for _, sql := range []string{
			`insert into tenants values ('%[1]s', '%[1]s', 'active', null, 1, now(), now(), 1, %[2]d)`,
			`insert into api_keys values ('key_%[1]s', '%[1]s', 'k', 'h%[1]s', 'p', '{a}', 'active', null, 1, now(), null, null, null, null, 1, 2)`,
			`insert into workflows values ('wf_%[1]s', '%[1]s', 'w', 'd', 'draft', 1, '{}', now(), 'me', now(), 'me', null, null, 'w d', '{w}', 1, 3)`,
			`insert into workflow_versions values ('wf_%[1]s', 1, '%[1]s', 'w', 'd', 'draft', '{}', now(), 'me', 3)`,
			`insert into workflow_sources values ('%[1]s', 's', 'wf_%[1]s')`,
			`insert into sources values ('%[1]s', 's', 'llm', '', '{}', 'active', 1, now(), 'me', now(), 'me', null, null, 1, 4)`,
			`insert into executions (id, tenant_id, workflow_name, spec_hash, status, tags, actor, request_id, created_at, tokens_used, cost, nodes_run, nodes, partition, first_seq, last_seq)
			 values ('exec_%[1]s', '%[1]s', 'w', '', 'PENDING', '{t}', '', '', now(), 1, 0.25, 0, '[]', 0, 1, 1)`,
			`insert into execution_tags values ('%[1]s', 't', now(), 'exec_%[1]s')`,
			`insert into execution_events values (%[2]d, 1, '%[1]s', 'exec_%[1]s', 0, 'c', now(), '{}')`,
			`insert into audit_log values ('cat_%[1]s', %[2]d, now(), '%[1]s', 'me', 'tenant_created', 'tenant', '%[1]s', '', 'c', null, '{}', '')`,
			`insert into command_refusals values ('c%[1]s', '%[1]s', now(), '{}')`,
			`insert into row_counts values ('%[1]s', 'workflow', 'draft', 0, 1)`,
		} {
			_, err := owner.pool.Exec(t.Context(), fmt.Sprintf(sql, tenant, i+1))
			require.NoError(t, err, sql)
		}
	}
}
