package postgres

import (
	"cmp"
	"hash/fnv"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// What row_counts counts.
const (
	countWorkflows  = "workflow"
	countSources    = "source"
	countExecutions = "execution"
)

// shards spreads the counters of one tenant and status over so many rows.
const shards = 16

func shard(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id)) // a hash never fails
	return int(h.Sum32() % shards)
}

const bumpSQL = `
	insert into row_counts as c (tenant_id, kind, status, shard, n) values ($1, $2, $3, $4, $5)
	on conflict (tenant_id, kind, status, shard) do update set n = c.n + excluded.n`

// move counts a row that went from one status to another; "" is no row.
func move(b *pgx.Batch, t protocol.TenantID, kind, id, from, to string) {
	if from == to {
		return
	}
	change := map[string]int64{}
	if from != "" {
		change[from]--
	}
	if to != "" {
		change[to]++
	}
	// In a fixed order, so that two who touch the same two rows never wait for each other.
	first, second := from, to
	if first > second {
		first, second = second, first
	}
	for _, status := range []string{first, second} {
		if n := change[status]; n != 0 {
			b.Queue(bumpSQL, t, kind, status, shard(id), n)
		}
	}
}

// executionCount is a counter of executions: its shard is the partition.
type executionCount struct {
	tenant    protocol.TenantID
	status    string
	partition int
}

// executionCounts is by how much counters change.
type executionCounts map[executionCount]int64

// queue changes the counters, in a fixed order: two who touch the same ones never wait for each other.
func (c executionCounts) queue(b *pgx.Batch) {
	keys := slices.SortedFunc(maps.Keys(c), func(a, b executionCount) int {
		return cmp.Or(cmp.Compare(a.tenant, b.tenant), cmp.Compare(a.status, b.status), cmp.Compare(a.partition, b.partition))
	})
	for _, k := range keys {
		if n := c[k]; n != 0 {
			b.Queue(bumpSQL, k.tenant, countExecutions, k.status, k.partition, n)
		}
	}
}

// queueCount reads how many rows of a kind a tenant has: of one status, or of all but the given one.
func queueCount(b *pgx.Batch, t protocol.TenantID, kind, status, except string, into *int64) {
	b.Queue(`
		select coalesce(sum(n), 0)::bigint from row_counts
		where tenant_id = $1 and kind = $2 and ($3 = '' or status = $3) and status <> $4`, t, kind, status, except).
		QueryRow(func(r pgx.Row) error { return r.Scan(into) })
}
