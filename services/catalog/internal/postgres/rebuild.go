package postgres

import (
	"context"
	"crypto/md5" //nolint:gosec // see readBodyOf
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/archive"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// swapLock bounds how long a swap may stand in the way of the service.
const swapLock = "5s"

// Swap puts the tables of another schema in the place of the live ones, and drops those. What has
// no event (refused accesses, refused commands) moves over. Once nobody writes any more, catchUp
// brings the fresh tables up to the live ones: what only the live archive has would be lost with
// it. The store must be the owner's.
func (s *Store) Swap(ctx context.Context, fresh string, catchUp func(ctx context.Context) error) error {
	live, old := pgx.Identifier{s.schema}.Sanitize(), pgx.Identifier{s.schema + "_old"}.Sanitize()
	next := pgx.Identifier{fresh}.Sanitize()
	if err := s.DropSchema(ctx, s.schema+"_old"); err != nil {
		return err
	}
	conn, err := s.acquire(ctx)
	if err != nil {
		return fault("swap", err)
	}
	defer conn.Release()
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: strings.Join([]string{
		"begin", "set local lock_timeout = '" + swapLock + "'", s.staying("pg_advisory_xact_lock"),
	}, "; ")})
	if err != nil {
		return fault("swap", err)
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // after the commit there is nothing to take back
	if err := catchUp(ctx); err != nil {
		return err
	}
	if _, err := tx.Exec(ctx, strings.Join([]string{
		"set local role " + db.PlatformRole,
		"insert into " + next + ".audit_log select * from " + live + ".audit_log where seq is null on conflict do nothing",
		"insert into " + next + ".command_refusals select * from " + live + ".command_refusals on conflict do nothing",
		"reset role",
		"alter schema " + live + " rename to " + old,
		"alter schema " + next + " rename to " + live,
		// These two name their schema; the others are bound to their tables.
		"alter function " + live + ".create_event_partitions(date, date) set search_path = " + live + ", pg_temp",
		"alter function " + live + ".drop_event_partition(date) set search_path = " + live + ", pg_temp",
	}, "; ")); err != nil {
		return fault("swap", err)
	}
	if err := tx.Commit(ctx); err != nil {
		return fault("swap", err)
	}
	return s.DropSchema(ctx, s.schema+"_old")
}

// DropSchema drops a schema with everything in it. The store must be the owner's.
func (s *Store) DropSchema(ctx context.Context, schema string) error {
	_, err := s.pool.Exec(ctx, "drop schema if exists "+pgx.Identifier{schema}.Sanitize()+" cascade")
	return fault("drop schema "+schema, err)
}

// Comparison is what Compare looks at.
type Comparison struct {
	Fresh     string    // schema of what the log says
	Retention time.Time // executions that ended before may be gone already; zero when none may
	Limit     int       // differences to describe for each table
}

// compared is a table, its key, and the columns that are told apart; none means all.
type compared struct {
	table   string
	key     []string
	columns []string
	// where narrows both sides to what can be compared: x is either row.
	where string
	// read turns what may be written in several ways into what it says; nil where there is one way.
	read func(row map[string]json.RawMessage)
}

var comparedTables = []compared{
	{table: "tenants", key: []string{"id"}},
	{table: "api_keys", key: []string{"tenant_id", "id"}},
	{table: "workflows", key: []string{"tenant_id", "id"}},
	{table: "workflow_versions", key: []string{"tenant_id", "workflow_id", "version"}},
	{table: "workflow_sources", key: []string{"tenant_id", "source_id", "workflow_id"}},
	{table: "sources", key: []string{"tenant_id", "id"}},
	{table: "audit_log", key: []string{"id"}, where: "x.seq is not null"},
	{
		table: "executions", key: []string{"tenant_id", "id"},
		where: "x.last_seq <= (select seq from both_have b where b.partition = x.partition)",
		read:  readRunsOf,
	},
	{table: "execution_tags", key: []string{"tenant_id", "tag", "created_at", "execution_id"}},
	{
		table: "execution_events", key: []string{"partition", "seq"},
		columns: []string{"partition", "seq", "tenant_id", "execution_id", "previous", "commit_id", "stored_at", "body"},
		where:   "x.seq <= (select seq from both_have b where b.partition = x.partition)",
		read:    readBodyOf,
	},
}

// Compare tells where the live tables say something other than fresh ones. The store must be the
// owner's.
func (s *Store) Compare(ctx context.Context, c Comparison) ([]protocol.Difference, error) {
	var out []protocol.Difference
	err := s.snapshot(ctx, func(tx *Tx) error {
		live, fresh := pgx.Identifier{s.schema}.Sanitize(), pgx.Identifier{c.Fresh}.Sanitize()
		for _, t := range comparedTables {
			list, err := compareTable(ctx, tx.tx, t, live, fresh, c)
			if err != nil {
				return fault("compare "+t.table, err)
			}
			out = append(out, list...)
		}
		for _, check := range []func(context.Context, pgx.Tx, string, int) ([]protocol.Difference, error){compareCounts, compareChains} {
			list, err := check(ctx, tx.tx, live, c.Limit)
			if err != nil {
				return fault("compare", err)
			}
			out = append(out, list...)
		}
		return nil
	})
	return out, err
}

func compareTable(ctx context.Context, tx pgx.Tx, t compared, live, fresh string, c Comparison) ([]protocol.Difference, error) {
	columns := "x.*"
	if len(t.columns) > 0 {
		columns = strings.Join(t.columns, ", ")
	}
	where := t.where
	if where == "" {
		where = "true"
	}
	expired := ""
	if t.table == "executions" && !c.Retention.IsZero() {
		// The log may still know what the retention has taken out of the tables.
		expired = " and not (a is null and b.completed_at < '" + c.Retention.UTC().Format(time.RFC3339Nano) + "')"
	}
	if t.table == "execution_events" && !c.Retention.IsZero() {
		expired = " and not (a is null and b.stored_at < '" + c.Retention.UTC().Format(time.RFC3339Nano) +
			"' and not exists (select from " + live + ".executions e where e.id = b.execution_id))"
	}
	if t.table == "execution_tags" && !c.Retention.IsZero() {
		expired = " and not (a is null and not exists (select from " + live + ".executions e where e.id = b.execution_id))"
	}
	limit := ""
	if t.read == nil {
		limit = fmt.Sprintf(" limit %d", c.Limit)
	}
	// The expression "a is null" asks whether every column is null, which no row's are.
	sql := `
		with both_have as (
			select substring(l.stream from '[0-9]+$')::int as partition, least(l.last_seq, f.last_seq) as seq
			from ` + live + `.projection_checkpoints l join ` + fresh + `.projection_checkpoints f using (stream) where l.stream ~ '[0-9]+$'
		)
		select to_jsonb(a), to_jsonb(b)
		from (select ` + columns + ` from ` + live + `.` + t.table + ` x where ` + where + `) a
		full join (select ` + columns + ` from ` + fresh + `.` + t.table + ` x where ` + where + `) b using (` + strings.Join(t.key, ", ") + `)
		where a is distinct from b` + expired + limit
	rows, err := tx.Query(ctx, sql)
	if err != nil {
		return nil, err
	}
	var out []protocol.Difference
	var a, b map[string]json.RawMessage
	found := 0
	_, err = pgx.ForEachRow(rows, []any{&a, &b}, func() error {
		if found < c.Limit {
			if t.read != nil {
				t.read(a)
				t.read(b)
			}
			if list := differences(t, a, b); len(list) > 0 {
				found++
				out = append(out, list...)
			}
		}
		a, b = nil, nil
		return nil
	})
	return out, err
}

// readRunsOf puts the runs of nodes into one form. What cannot be read stays as it is.
func readRunsOf(row map[string]json.RawMessage) {
	var (
		created protocol.Time
		runs    *string
		nodes   []byte
	)
	if row == nil || json.Unmarshal(row["created_at"], &created) != nil || json.Unmarshal(row["runs"], &runs) != nil {
		return
	}
	if string(row["nodes"]) != "null" {
		nodes = row["nodes"]
	}
	var short []byte
	if runs != nil {
		short = []byte(*runs)
	}
	list, err := readRuns(created, short, nodes)
	if err != nil {
		return
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return
	}
	row["nodes"] = raw
	delete(row, "runs")
}

// readBodyOf replaces a body by the hash of what it holds: equal commits may be packed differently.
func readBodyOf(row map[string]json.RawMessage) {
	var text string
	if row == nil || json.Unmarshal(row["body"], &text) != nil {
		return
	}
	stored, err := hex.DecodeString(strings.TrimPrefix(text, `\x`))
	if err != nil {
		return
	}
	body, err := archive.Open(stored)
	if err != nil {
		body = stored
	}
	delete(row, "body")
	row["body_md5"] = fmt.Appendf(nil, "%q", fmt.Sprintf("%x", md5.Sum(body))) //nolint:gosec // tells bodies apart, guards nothing
}

func differences(t compared, live, fresh map[string]json.RawMessage) []protocol.Difference {
	id := func(row map[string]json.RawMessage) string {
		parts := make([]string, len(t.key))
		for i, k := range t.key {
			parts[i] = strings.Trim(string(row[k]), `"`)
		}
		return strings.Join(parts, "/")
	}
	switch {
	case live == nil:
		return []protocol.Difference{{Table: t.table, ID: id(fresh), Log: "there is such a row", Row: ""}}
	case fresh == nil:
		return []protocol.Difference{{Table: t.table, ID: id(live), Log: "", Row: "there is such a row"}}
	}
	fields := make([]string, 0, len(fresh))
	for field := range fresh {
		if string(fresh[field]) != string(live[field]) {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	out := make([]protocol.Difference, len(fields))
	for i, field := range fields {
		out[i] = protocol.Difference{Table: t.table, ID: id(live), Field: field, Log: brief(fresh[field]), Row: brief(live[field])}
	}
	return out
}

// brief is a value within the bounds of a line.
func brief(raw json.RawMessage) string {
	const limit = 200
	s := string(raw)
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "") + "…"
	}
	return s
}

// compareCounts holds the counters against the rows that they count.
func compareCounts(ctx context.Context, tx pgx.Tx, live string, limit int) ([]protocol.Difference, error) {
	rows, err := tx.Query(ctx, `
		with counted as (
			select tenant_id, kind, status, sum(n) as n from `+live+`.row_counts group by 1, 2, 3 having sum(n) <> 0
		), there as (
			select tenant_id, 'workflow' as kind, status, count(*)::numeric as n from `+live+`.workflows group by 1, 3
			union all select tenant_id, 'source', status, count(*) from `+live+`.sources group by 1, 3
			union all select tenant_id, 'execution', status, count(*) from `+live+`.executions group by 1, 3
		)
		select tenant_id || '/' || kind || '/' || status, coalesce(c.n, 0)::text, coalesce(t.n, 0)::text
		from counted c full join there t using (tenant_id, kind, status) where c.n is distinct from t.n limit $1`, limit)
	if err != nil {
		return nil, err
	}
	var out []protocol.Difference
	d := protocol.Difference{Table: "row_counts", Field: "n"}
	_, err = pgx.ForEachRow(rows, []any{&d.ID, &d.Row, &d.Log}, func() error {
		out = append(out, d)
		return nil
	})
	return out, err
}

// compareChains looks for commits whose predecessor the archive should have and has not.
func compareChains(ctx context.Context, tx pgx.Tx, live string, limit int) ([]protocol.Difference, error) {
	rows, err := tx.Query(ctx, `
		select e.partition || '/' || e.previous from `+live+`.execution_events e
		join `+live+`.executions x on x.id = e.execution_id and x.tenant_id = e.tenant_id
		where e.previous <> 0 and not exists (
			select from `+live+`.execution_events p where p.partition = e.partition and p.seq = e.previous and p.execution_id = e.execution_id)
		limit $1`, limit)
	if err != nil {
		return nil, err
	}
	var out []protocol.Difference
	d := protocol.Difference{Table: "execution_events", Log: "the next commit of its execution names this one"}
	_, err = pgx.ForEachRow(rows, []any{&d.ID}, func() error {
		out = append(out, d)
		return nil
	})
	return out, err
}

// Counted is how much a store holds.
type Counted struct{ Documents, Executions, Commits int64 }

// Count counts what a comparison looks at.
func (s *Store) Count(ctx context.Context) (Counted, error) {
	var c Counted
	err := s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue(`
			select (select count(*) from tenants) + (select count(*) from api_keys) + (select count(*) from workflows) + (select count(*) from sources),
				(select count(*) from executions), (select count(*) from execution_events)`).
			QueryRow(func(r pgx.Row) error { return r.Scan(&c.Documents, &c.Executions, &c.Commits) })
	})
	return c, err
}

// Ready is nil when the tables are there.
func (s *Store) Ready(ctx context.Context) error {
	return s.read(ctx, platform, func(b *pgx.Batch) {
		b.Queue("select 1 from tenants, executions, row_counts limit 0")
	})
}
