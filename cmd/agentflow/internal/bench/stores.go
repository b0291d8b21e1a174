package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5" //nolint:depguard // measures the tables of its own platform from outside

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// stores are the log and the database of a platform, looked at from outside.
type stores struct {
	bus *bus.Bus
	db  *pgx.Conn
}

func openStores(ctx context.Context, c *child, environ []string) (*stores, error) {
	env := []string{"NATS_URL=" + c.NATSURL, "NATS_CREATE_STREAMS=false"}
	for _, entry := range environ { // the rest is about servers elsewhere
		if strings.HasPrefix(entry, "EXECUTION_PARTITIONS") {
			env = append(env, entry)
		}
	}
	cfg, err := daemon.Load[bus.Config](env)
	if err != nil {
		return nil, err
	}
	cfg.Name = "agentflow bench"
	s := &stores{}
	if s.bus, err = bus.Connect(ctx, cfg); err != nil {
		return nil, err
	}
	if s.db, err = pgx.Connect(ctx, c.owner); err != nil {
		s.bus.Close()
		return nil, fmt.Errorf("look at the database: %w", err)
	}
	return s, nil
}

func (s *stores) close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = s.db.Close(ctx) // nothing was written
	s.bus.Close()
}

// streams are those that an execution may write to.
func (s *stores) streams() []string {
	names := []string{protocol.StreamCatalog}
	for p := range s.bus.Partitions() {
		names = append(names, protocol.PartitionStream(p))
	}
	return names
}

// level is how much stands in the stores.
type level struct {
	streams  map[string]bus.StreamState
	database int64 // bytes of the tables with their indexes
	wal      int64 // bytes that Postgres has written to its own log since it was made
}

func (s *stores) level(ctx context.Context) (level, error) {
	l := level{streams: map[string]bus.StreamState{}}
	for _, name := range s.streams() {
		state, err := s.bus.State(ctx, name)
		if err != nil {
			return l, err
		}
		l.streams[name] = state
	}
	err := s.db.QueryRow(ctx, `select pg_database_size(current_database()), pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint`).Scan(&l.database, &l.wal)
	if err != nil {
		return l, fmt.Errorf("measure the database: %w", err)
	}
	return l, nil
}

// bytes is what stands in the log now.
func (l level) bytes() int64 {
	var n uint64
	for _, state := range l.streams {
		n += state.Bytes
	}
	return int64(min(n, 1<<62))
}

// writtenSince is what came into the log. Where the log has been trimmed since, what went is reckoned by the average of
// what stays, or stood.
func (l level) writtenSince(before level) int64 {
	var n float64
	for name, now := range l.streams {
		was := before.streams[name]
		if now.First <= max(was.First, 1) {
			n += float64(now.Bytes) - float64(was.Bytes)
			continue
		}
		of := now
		if of.Messages == 0 {
			of = was
		}
		if of.Messages > 0 {
			n += float64(now.Last-was.Last) * float64(of.Bytes) / float64(of.Messages)
		}
	}
	return int64(n)
}

// behind is how many messages of the log the tables do not have yet.
func (s *stores) behind(ctx context.Context) (int64, error) {
	want := map[string]uint64{}
	for _, name := range s.streams() {
		state, err := s.bus.State(ctx, name)
		if err != nil {
			return 0, err
		}
		want[name] = state.Last
	}
	rows, err := s.db.Query(ctx, `select stream, last_seq from `+db.Schema+`.projection_checkpoints`)
	if err != nil {
		return 0, fmt.Errorf("read the checkpoints: %w", err)
	}
	var (
		stream string
		have   uint64
		lag    int64
	)
	_, err = pgx.ForEachRow(rows, []any{&stream, &have}, func() error {
		if last, ok := want[stream]; ok && have >= last {
			delete(want, stream)
		} else if ok {
			want[stream] = last - have
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("read the checkpoints: %w", err)
	}
	for _, missing := range want {
		lag += int64(min(missing, 1<<40))
	}
	return lag, nil
}

// drainPatience is how long the tables may take to catch up.
const drainPatience = 5 * time.Minute

var errNotDrained = errors.New("the tables have not caught up with the log")

// drain waits until the tables have all of the log, and tells how far behind they were, and for how long.
func (s *stores) drain(ctx context.Context) (lag int64, took time.Duration, err error) {
	began := time.Now()
	if lag, err = s.behind(ctx); err != nil {
		return 0, 0, err
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for left := lag; left > 0; {
		select {
		case <-poll.C:
		case <-ctx.Done():
			return lag, 0, context.Cause(ctx)
		}
		if took = time.Since(began); took > drainPatience {
			return lag, took, fmt.Errorf("%w after %s: %d messages are left", errNotDrained, drainPatience, left)
		}
		if left, err = s.behind(ctx); err != nil {
			return lag, 0, err
		}
	}
	return lag, took, nil
}
