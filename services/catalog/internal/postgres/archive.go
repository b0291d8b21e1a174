package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/archive"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// maxAnswer bounds the bodies of one answer: with what stands around them they must fit into a message.
const maxAnswer = 2 << 20

// Limits of how many commits one answer brings.
const (
	defaultCommits = 100
	maxCommits     = 500
)

// GetExecutionCommits reads the archived log of one execution.
func (s *Store) GetExecutionCommits(ctx context.Context, req protocol.GetExecutionCommitsRequest, stream string) (protocol.ExecutionCommits, error) {
	out := protocol.ExecutionCommits{Commits: []protocol.ArchivedCommit{}}
	limit := req.Limit
	if limit == 0 {
		limit = defaultCommits
	}
	if limit < 0 || limit > maxCommits {
		return out, &protocol.Error{Code: protocol.CodeInvalid, Field: "limit", Message: "limit must be between 1 and 500"}
	}
	if !clean(string(req.ID)) {
		return out, Missing("execution", string(req.ID), false)
	}
	known, size := false, 0
	err := s.read(ctx, req.Tenant, func(b *pgx.Batch) {
		b.Queue("select true from executions where id = $1 and tenant_id = $2", req.ID, req.Tenant).Query(one(func(r pgx.Rows) error { return r.Scan(&known) }))
		b.Queue(`
			select seq, previous, commit_id, stored_at, body from execution_events
			where execution_id = $1 and tenant_id = $2 and seq > $3 order by seq limit $4`, req.ID, req.Tenant, signed(req.After), limit+1).
			Query(func(rows pgx.Rows) error {
				for rows.Next() {
					var (
						c      protocol.ArchivedCommit
						stored time.Time
						body   []byte
					)
					if err := rows.Scan(&c.Sequence, &c.Previous, &c.ID, &stored, &body); err != nil {
						return err
					}
					body, err := archive.Open(body)
					if err != nil {
						return fmt.Errorf("commit %d: %w", c.Sequence, err)
					}
					if len(out.Commits) == limit || len(out.Commits) > 0 && size+len(body) > maxAnswer {
						out.HasMore = true
						break
					}
					c.Stored, c.Body = protocol.At(stored), body
					size += len(body)
					out.Commits = append(out.Commits, c)
				}
				rows.Close()
				return rows.Err()
			})
	})
	if err == nil && !known && len(out.Commits) == 0 {
		err = s.missing(ctx, req.Tenant, "execution", string(req.ID))
	}
	if err != nil {
		return out, err
	}
	out.Through, err = s.Checkpoint(ctx, stream)
	return out, err
}

// ArchivedAfter reads the archive of a partition in the order of the log.
func (s *Store) ArchivedAfter(ctx context.Context, partition int, after uint64, limit int) ([]Archived, error) {
	var out []Archived
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue(`
			select tenant_id, execution_id, seq, previous, commit_id, stored_at, body from execution_events
			where partition = $1 and seq > $2 order by seq limit $3`, partition, signed(after), limit).Query(func(rows pgx.Rows) error {
			for rows.Next() {
				a := Archived{Key: protocol.ExecutionKey{Partition: partition}}
				if err := rows.Scan(&a.Key.Tenant, &a.Key.ID, &a.Seq, &a.Previous, &a.CommitID, &a.Stored, &a.Body); err != nil {
					return err
				}
				body, err := archive.Open(a.Body)
				if err != nil {
					return fmt.Errorf("commit %d of partition %d: %w", a.Seq, partition, err)
				}
				a.Body, a.Stored = body, a.Stored.UTC()
				out = append(out, a)
			}
			return rows.Err()
		})
	})
	return out, err
}

// ArchivedPartitions tells which partitions the archive has commits of, and the last of each.
func (s *Store) ArchivedPartitions(ctx context.Context, partitions int) (map[int]uint64, error) {
	out := map[int]uint64{}
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		for p := range partitions {
			b.Queue("select coalesce(max(seq), 0) from execution_events where partition = $1", p).QueryRow(func(r pgx.Row) error {
				var seq uint64
				err := r.Scan(&seq)
				out[p] = seq
				return err
			})
		}
	})
	return out, err
}

// ArchivedDays tells between which days the archive's commits were stored; zero when there are none.
func (s *Store) ArchivedDays(ctx context.Context) (first, last time.Time, err error) {
	err = s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue("select min(stored_at), max(stored_at) from execution_events").QueryRow(func(r pgx.Row) error {
			var lo, hi *time.Time
			err := r.Scan(&lo, &hi)
			if lo != nil && hi != nil {
				first, last = lo.UTC(), hi.UTC()
			}
			return err
		})
	})
	return first, last, err
}
