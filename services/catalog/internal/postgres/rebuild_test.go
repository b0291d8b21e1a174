package postgres

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/local/localtest"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// TestWhoWritesWaitsForASwap: what comes while the tables are replaced stands in the new ones, not in those that are dropped.
func TestWhoWritesWaitsForASwap(t *testing.T) {
	admin := localtest.Postgres(t)
	service, owner := open(t, admin, Config{})
	seed(t, owner)
	const fresh = "agentflow_fresh"
	require.NoError(t, db.Migrate(t.Context(), admin, db.Options{Schema: fresh}))

	var writers errgroup.Group
	err := owner.Swap(t.Context(), fresh, func(ctx context.Context) error {
		for _, write := range []func() error{
			func() error {
				return service.RecordAudit(ctx, "acme", protocol.AuditRecord{ID: "late", At: protocol.At(time.Now()), Action: "access_refused"})
			},
			func() error {
				return service.Refuse(ctx, "acme", "late", protocol.At(time.Now()), &protocol.Error{Code: protocol.CodeInvalid})
			},
			func() error {
				return service.Tenant(ctx, "acme", func(*Tx) error { return nil })
			},
		} {
			writers.Go(write)
		}
		require.Eventually(t, func() bool {
			var waiting int
			err := owner.pool.QueryRow(ctx, `
				select count(*) from pg_locks
				where locktype = 'advisory' and not granted and database = (select oid from pg_database where datname = current_database())`).Scan(&waiting)
			return err == nil && waiting == 3
		}, waitFor, tick)
		return nil
	})
	require.NoError(t, err)
	require.NoError(t, writers.Wait())
	for _, sql := range []string{"select from agentflow.audit_log where id = 'late'", "select from agentflow.command_refusals where command_id = 'late'"} {
		tag, err := owner.pool.Exec(t.Context(), sql)
		require.NoError(t, err)
		require.Equal(t, int64(1), tag.RowsAffected(), sql)
	}
}
