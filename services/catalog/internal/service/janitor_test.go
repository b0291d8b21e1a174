package service

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

// clock is a clock that tests move.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

func (w *world) janitor(grace, retention time.Duration) (*Janitor, *clock) {
	w.t.Helper()
	// A copy with a clock of its own: the service's other parts go on with the real one.
	s := *w.Service
	c := &clock{at: time.Now()}
	s.now = c.now
	return &Janitor{Service: &s, Grace: grace, Every: time.Hour, Retention: retention}, c
}

func (w *world) messages(partition int) (first, last, count uint64) {
	w.t.Helper()
	state, err := w.bus.State(w.t.Context(), protocol.PartitionStream(partition))
	require.NoError(w.t, err)
	return state.First, state.Last, state.Messages
}

func TestTrimmingTheHotLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	acme := w.tenant("acme")
	stop := w.project()
	j, c := w.janitor(time.Minute, 0)
	var samples []sample
	trim := func() {
		t.Helper()
		var err error
		samples, err = j.trim(t.Context(), 0, samples)
		require.NoError(t, err)
	}
	w.start(acme, protocol.Requested{}).complete()
	living := w.start(acme, protocol.Requested{})
	w.start(acme, protocol.Requested{}).complete()
	w.settled()
	trim()
	first, last, _ := w.messages(0)
	require.EqualValues(t, 1, first, "readers get their grace")
	require.EqualValues(t, 5, last)

	c.at = c.at.Add(time.Minute)
	trim()
	first, _, _ = w.messages(0)
	require.EqualValues(t, 3, first, "everything before the first commit of the oldest that lives")

	// A carried execution pins nothing but its own last commit.
	living.commit(protocol.Carried{Requested: protocol.Requested{WorkflowName: "w"}, Snapshot: []byte(`{}`)})
	w.start(acme, protocol.Requested{}).complete()
	w.settled()
	trim()
	c.at = c.at.Add(time.Minute)
	trim()
	first, _, _ = w.messages(0)
	require.Equal(t, living.last, first)

	// Nothing goes that the tables do not have.
	stop()
	living.complete()
	for range 10 {
		w.start(acme, protocol.Requested{}).complete()
	}
	for range 3 {
		c.at = c.at.Add(time.Hour)
		trim()
	}
	first, _, _ = w.messages(0)
	require.Equal(t, living.last-3, first, "the carried commit is still the first")
	w.project()
	w.settled()
	trim()
	c.at = c.at.Add(time.Minute)
	trim()
	_, _, count := w.messages(0)
	require.Zero(t, count, "all have ended, all are in the archive")
	// What was carried is whole in the tables.
	x := living.get()
	require.Equal(t, "COMPLETED", x.Status)
	require.JSONEq(t, `{"user_input":"hi"}`, string(x.InitialState))
	commits, err := w.getCommits(t.Context(), protocol.GetExecutionCommitsRequest{Tenant: acme, ID: living.key.ID})
	require.NoError(t, err)
	require.Len(t, commits.Commits, 3)
	require.Equal(t, uint64(3), commits.Commits[0].Sequence)
	// An empty log is projected on.
	next := w.start(acme, protocol.Requested{})
	w.settled()
	require.Equal(t, "PENDING", next.get().Status)
}

// A log of which the grace holds too much would refuse requests though all of it is archived.
func TestACrowdedLogIsTrimmedEarlier(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1, maxBytes: 4 << 20})
	acme := w.tenant("acme")
	w.project()
	j, c := w.janitor(24*time.Hour, 0)
	j.Every = time.Second
	state, err := w.bus.State(t.Context(), protocol.PartitionStream(0))
	require.NoError(t, err)
	text := strings.Repeat("x", 16<<10)
	for sent := 0; sent <= int(state.MaxBytes/roomy); sent += len(text) {
		w.start(acme, protocol.Requested{RequestID: text}).complete()
	}
	w.settled()
	samples, err := j.trim(t.Context(), 0, nil)
	require.NoError(t, err)
	first, last, _ := w.messages(0)
	require.EqualValues(t, 1, first, "a reader of just now still finds it")
	c.at = c.at.Add(j.Every)
	_, err = j.trim(t.Context(), 0, samples)
	require.NoError(t, err)
	first, _, count := w.messages(0)
	require.Zero(t, count)
	require.Equal(t, last+1, first)
}

func TestRetention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	acme := w.tenant("acme")
	w.project()
	const day = 24 * time.Hour
	now := time.Now()
	// Events of the past are stored now; the archive is told otherwise below.
	age := func(r *run, days int) {
		w.settled()
		at := now.Add(-time.Duration(days) * day)
		w.sql("update executions set created_at = created_at - $1::interval, completed_at = completed_at - $1::interval where id = $2", now.Sub(at), r.key.ID)
		w.sql("update execution_events set stored_at = stored_at - $1::interval where execution_id = $2", now.Sub(at), r.key.ID)
	}
	require.NoError(t, w.store.PrepareDays(t.Context(), now.Add(-60*day), now.Add(day)))
	old := w.start(acme, protocol.Requested{Tags: []string{"x"}}).complete()
	age(old, 40)
	older := w.start(acme, protocol.Requested{}).complete()
	age(older, 50)
	living := w.start(acme, protocol.Requested{})
	age(living, 45) // it holds the days behind it
	ancient := w.start(acme, protocol.Requested{}).complete()
	age(ancient, 400) // of a day without a partition
	young := w.start(acme, protocol.Requested{}).complete()
	age(young, 5)

	j, _ := w.janitor(time.Minute, 30*day)
	j.keepHouse(t.Context())
	for _, r := range []*run{old, older, ancient} {
		_, err := w.store.GetExecution(t.Context(), acme, r.key.ID)
		requireCode(t, err, protocol.CodeNotFound)
		_, err = w.getCommits(t.Context(), protocol.GetExecutionCommitsRequest{Tenant: acme, ID: r.key.ID})
		requireCode(t, err, protocol.CodeNotFound)
	}
	require.Equal(t, "PENDING", living.get().Status)
	require.Equal(t, "COMPLETED", young.get().Status)
	l, err := w.store.ListExecutions(t.Context(), protocol.ListExecutionsRequest{Tenant: acme})
	require.NoError(t, err)
	require.EqualValues(t, 2, l.Total)
	require.Len(t, l.Items, 2)
	require.Zero(t, w.count("select count(*) from execution_tags"))
	require.EqualValues(t, 3, w.count("select count(*) from execution_events"))
	// Days from before the living one's are gone as a whole, those since are kept.
	partition := func(days int) string {
		return "execution_events_" + now.UTC().Add(-time.Duration(days)*day).Format("20060102")
	}
	require.Zero(t, w.count("select count(*) from pg_class where relname = $1", partition(50)))
	require.EqualValues(t, 1, w.count("select count(*) from pg_class where relname = $1", partition(40)))

	living.complete()
	age(living, 40)
	j.keepHouse(t.Context())
	require.Zero(t, w.count("select count(*) from pg_class where relname = $1", partition(40)))
	require.EqualValues(t, 2, w.count("select count(*) from execution_events"), "those of the young one")
	// For ever is for ever.
	age(young, 5000)
	j.Retention = 0
	j.keepHouse(t.Context())
	require.Equal(t, "COMPLETED", young.get().Status)
	// The days to come are there.
	for days := range daysAhead {
		require.EqualValues(t, 1, w.count("select count(*) from pg_class where relname = $1", partition(-days)))
	}
}

// TestLargeValuesGoWithTheirExecutions: the object store is emptied behind the oldest execution that is left.
func TestLargeValuesGoWithTheirExecutions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	acme := w.tenant("acme")
	stop := w.project()
	name, err := w.bus.PutObject(t.Context(), acme, []byte(`{"large":"value"}`))
	require.NoError(t, err)
	there := func() bool {
		_, err := w.bus.GetObject(t.Context(), acme, name, 1<<10)
		if err != nil {
			require.ErrorIs(t, err, bus.ErrNotFound)
		}
		return err == nil
	}
	living := w.start(acme, protocol.Requested{Input: protocol.ReferTo(name, 17)})
	w.settled()
	const day = 24 * time.Hour
	j, c := w.janitor(0, 30*day)
	j.keepHouse(t.Context())
	require.True(t, there())
	c.at = c.at.Add(40 * day)
	j.keepHouse(t.Context())
	require.True(t, there(), "it still runs")

	// It ends, but that is not projected yet: the tables know nothing of the end, and the log of all.
	stop()
	living.complete()
	j.keepHouse(t.Context())
	require.True(t, there())
	w.project()
	w.settled()
	j.keepHouse(t.Context())
	require.True(t, there(), "the log still holds its commits")
	for range 2 {
		_, err = j.trim(t.Context(), 0, nil)
		require.NoError(t, err)
	}
	j.keepHouse(t.Context())
	require.False(t, there())

	kept, err := w.bus.PutObject(t.Context(), acme, []byte(`{"large":"value"}`))
	require.NoError(t, err)
	j.Retention = 0
	c.at = c.at.Add(400 * day)
	j.keepHouse(t.Context())
	_, err = w.bus.GetObject(t.Context(), acme, kept, 1<<10)
	require.NoError(t, err, "for ever is for ever")
}

func (w *world) sql(statement string, args ...any) {
	w.t.Helper()
	_, err := w.admin().ExecContext(w.t.Context(), statement, args...)
	require.NoError(w.t, err)
}

func (w *world) count(query string, args ...any) (n int64) {
	w.t.Helper()
	require.NoError(w.t, w.admin().QueryRowContext(w.t.Context(), query, args...).Scan(&n))
	return n
}

func TestJanitorRuns(t *testing.T) {
	t.Parallel()
	w := newWorld(t, options{partitions: 1})
	acme := w.tenant("acme")
	w.project()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		(&Janitor{Service: w.Service, Every: 5 * time.Millisecond}).Run(ctx)
	}()
	for range 20 {
		w.start(acme, protocol.Requested{}).complete()
	}
	require.Eventually(t, func() bool {
		_, last, count := w.messages(0)
		return last == 40 && count == 0
	}, waitFor, tick)
	cancel()
	<-done
}
