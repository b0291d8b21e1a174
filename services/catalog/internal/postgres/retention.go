package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Needed is the lowest sequence of a partition that still matters, as the tables see it: the first
// commit of the oldest execution that has not ended, or what the projector reads next. An execution from before the first
// message that the log has went with an earlier log, and needs nothing of this one.
func (s *Store) Needed(ctx context.Context, partition int, stream string, first uint64) (needed, projected uint64, err error) {
	err = s.read(ctx, platform, func(b *pgx.Batch) {
		// One statement, one snapshot: rows and checkpoint belong together.
		b.Queue(`
			select c.last_seq, least(c.last_seq + 1, coalesce(
				(select min(x.first_seq) from executions x where x.partition = $1 and x.completed_at is null and x.first_seq >= $3), c.last_seq + 1))
			from projection_checkpoints c where c.stream = $2`, partition, stream, signed(first)).
			Query(one(func(r pgx.Rows) error { return r.Scan(&projected, &needed) }))
	})
	return needed, projected, err
}

// PrepareDays makes the archive's partitions for some days.
func (s *Store) PrepareDays(ctx context.Context, first, last time.Time) error {
	return s.Platform(ctx, func(tx *Tx) error {
		_, err := tx.tx.Exec(ctx, "select create_event_partitions($1::date, $2::date)", first.Format(time.DateOnly), last.Format(time.DateOnly))
		return fault("prepare archive", err)
	})
}

// ExpireExecutions deletes up to limit executions that ended before a time, with everything about
// them but their commits, and tells how many there were.
func (s *Store) ExpireExecutions(ctx context.Context, before time.Time, limit int) (int, error) {
	n := 0
	err := s.Platform(ctx, func(tx *Tx) error {
		type expired struct {
			id, status string
			tenant     protocol.TenantID
			partition  int
		}
		rows, err := tx.tx.Query(ctx, `
			delete from executions x using (
				select id, tenant_id from executions where completed_at < $1 order by completed_at limit $2 for update skip locked
			) old where x.id = old.id and x.tenant_id = old.tenant_id
			returning x.id, x.status, x.tenant_id, x.partition`, before, limit)
		if err != nil {
			return fault("expire executions", err)
		}
		list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (expired, error) {
			var e expired
			err := r.Scan(&e.id, &e.status, &e.tenant, &e.partition)
			return e, err
		})
		if err != nil {
			return fault("expire executions", err)
		}
		if n = len(list); n == 0 {
			return nil
		}
		ids, change := make([]string, 0, n), executionCounts{}
		for _, e := range list {
			ids = append(ids, e.id)
			change[executionCount{e.tenant, e.status, e.partition}]--
		}
		b := &pgx.Batch{}
		b.Queue("delete from execution_tags where execution_id = any ($1)", ids)
		change.queue(b)
		return fault("expire executions", tx.tx.SendBatch(ctx, b).Close())
	})
	return n, err
}

// OldestExecution is when the oldest execution in the tables was requested; zero when there is none.
func (s *Store) OldestExecution(ctx context.Context) (oldest time.Time, err error) {
	err = s.read(ctx, platform, func(b *pgx.Batch) {
		// Tenant by tenant, for which there is an index.
		b.Queue(`
			select coalesce(min(x.oldest), 'epoch') from tenants t
			cross join lateral (select min(created_at) as oldest from executions where tenant_id = t.id) x`).
			Query(one(func(r pgx.Rows) error { return r.Scan(&oldest) }))
	})
	if oldest.Unix() == 0 {
		oldest = time.Time{}
	}
	return oldest, err
}

// ExpireDays frees the archive of what was stored before a day begins. The partition of a day
// goes as a whole once no execution from before its end is left.
func (s *Store) ExpireDays(ctx context.Context, before time.Time) (dropped []string, err error) {
	days, err := s.archiveDays(ctx)
	if err != nil {
		return nil, err
	}
	cut := before.UTC().Truncate(24 * time.Hour)
	for _, day := range days {
		end := day.AddDate(0, 0, 1)
		if end.After(cut) {
			continue
		}
		gone := false
		err := s.Platform(ctx, func(tx *Tx) error {
			return fault("expire archive", tx.tx.QueryRow(ctx, `
				select case when exists (select from executions where created_at < $1) then false else drop_event_partition($2::date) end`,
				end, day.Format(time.DateOnly)).Scan(&gone))
		})
		if err != nil {
			return dropped, err
		}
		if gone {
			dropped = append(dropped, day.Format(time.DateOnly))
		}
	}
	return dropped, nil
}

// ExpireCommits deletes up to limit commits from before a time whose execution is gone: those of
// days that cannot go as a whole.
func (s *Store) ExpireCommits(ctx context.Context, before time.Time, limit int) (int, error) {
	n := 0
	err := s.Platform(ctx, func(tx *Tx) error {
		tag, err := tx.tx.Exec(ctx, `
			delete from execution_events e using (
				select partition, seq, stored_at from execution_events o
				where o.stored_at < $1 and not exists (select from executions x where x.id = o.execution_id and x.tenant_id = o.tenant_id)
				limit $2
			) old where e.partition = old.partition and e.seq = old.seq and e.stored_at = old.stored_at`, before, limit)
		n = int(tag.RowsAffected())
		return fault("expire archive", err)
	})
	return n, err
}

// ExpireRefusals forgets refusals from before a time: nobody sends those commands again.
func (s *Store) ExpireRefusals(ctx context.Context, before time.Time) error {
	return s.Platform(ctx, func(tx *Tx) error {
		_, err := tx.tx.Exec(ctx, "delete from command_refusals where at < $1", before)
		return fault("expire refusals", err)
	})
}

// archiveDays lists the days that the archive has a partition for.
func (s *Store) archiveDays(ctx context.Context) ([]time.Time, error) {
	var days []time.Time
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue(`
			select right(c.relname, 8) from pg_inherits i join pg_class c on c.oid = i.inhrelid
			where i.inhparent = 'execution_events'::regclass and c.relname ~ '^execution_events_[0-9]{8}$' order by 1`).Query(func(rows pgx.Rows) error {
			var name string
			_, err := pgx.ForEachRow(rows, []any{&name}, func() error {
				day, err := time.Parse("20060102", name)
				if err != nil {
					return fmt.Errorf("partition of the archive: %w", err)
				}
				days = append(days, day)
				return nil
			})
			return err
		})
	})
	return days, err
}
