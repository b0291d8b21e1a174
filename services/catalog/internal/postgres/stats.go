package postgres

import (
	"context"
	"encoding/json"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// GetStats sums up the executions of a tenant, or of one of its workflows.
func (s *Store) GetStats(ctx context.Context, req protocol.GetStatsRequest) (protocol.Stats, error) {
	out := protocol.Stats{
		WorkflowID: req.WorkflowID, Since: req.Since, Until: req.Until,
		ByStatus: map[string]int64{}, Cost: "0", ByDay: []protocol.DayStats{},
	}
	if !clean(req.WorkflowID) {
		return out, Missing("workflow", req.WorkflowID, false)
	}
	var q query
	q.and("tenant_id = ?", req.Tenant)
	if req.WorkflowID != "" {
		q.and("workflow_id = ?", req.WorkflowID)
	}
	within(&q, "created_at", req.Since, req.Until)
	where := " from executions where " + q.conditions()
	known := req.WorkflowID == ""
	err := s.read(ctx, req.Tenant, func(b *pgx.Batch) {
		if !known {
			b.Queue("select true from workflows where id = $1 and tenant_id = $2 and deleted_at is null", req.WorkflowID, req.Tenant).
				Query(one(func(r pgx.Rows) error { return r.Scan(&known) }))
		}
		b.Queue("select status, count(*)"+where+" group by status", q.args...).Query(func(rows pgx.Rows) error {
			var (
				status string
				n      int64
			)
			_, err := pgx.ForEachRow(rows, []any{&status, &n}, func() error {
				out.ByStatus[status] = n
				out.Total += n
				return nil
			})
			return err
		})
		b.Queue(`
			select coalesce(avg(duration_ms), 0)::float8,
				coalesce(percentile_cont(array[0.5, 0.95, 0.99]) within group (order by duration_ms), array[0, 0, 0]::float8[]),
				coalesce(sum(tokens_used), 0)::bigint, coalesce(sum(cost), 0)::text`+where, q.args...).QueryRow(func(r pgx.Row) error {
			var (
				percentiles []float64
				cost        string
			)
			if err := r.Scan(&out.AvgDurationMS, &percentiles, &out.TokensUsed, &cost); err != nil {
				return err
			}
			out.P50DurationMS, out.P95DurationMS, out.P99DurationMS = percentiles[0], percentiles[1], percentiles[2]
			out.Cost = json.Number(cost)
			return nil
		})
		b.Queue(`
			select (created_at at time zone 'UTC')::date, count(*), count(*) filter (where status = 'COMPLETED'),
				count(*) filter (where status = 'FAILED'), count(*) filter (where status = 'TIMED_OUT'), count(*) filter (where status = 'CANCELLED'),
				coalesce(avg(duration_ms), 0)::float8, sum(tokens_used)::bigint, sum(cost)::text`+where+" group by 1 order by 1 desc limit 366", q.args...).
			Query(func(rows pgx.Rows) error {
				for rows.Next() {
					var (
						d    protocol.DayStats
						day  time.Time
						cost string
					)
					if err := rows.Scan(&day, &d.Total, &d.Completed, &d.Failed, &d.TimedOut, &d.Cancelled, &d.AvgDurationMS, &d.TokensUsed, &cost); err != nil {
						return err
					}
					d.Day, d.Cost = day.Format(time.DateOnly), json.Number(cost)
					out.ByDay = append(out.ByDay, d)
				}
				return rows.Err()
			})
	})
	if err != nil {
		return out, err
	}
	if !known {
		return out, s.missing(ctx, req.Tenant, "workflow", req.WorkflowID)
	}
	slices.Reverse(out.ByDay)
	out.Timeouts = out.ByStatus["TIMED_OUT"]
	if ended := out.Total - out.ByStatus["PENDING"] - out.ByStatus["RUNNING"]; ended > 0 {
		out.SuccessRate = float64(out.ByStatus["COMPLETED"]) / float64(ended)
	}
	return out, nil
}
