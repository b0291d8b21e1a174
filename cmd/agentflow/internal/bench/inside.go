package bench

import (
	"context"
	"time"
)

// inside is what can be seen of a platform of our own; nil of one that is only an address.
type inside struct {
	child  *child
	stores *stores
}

// sight is what a platform has used and holds at a moment, and this process with it.
type sight struct {
	level      level
	cost       cost
	goroutines int64
}

// look sees how things stand before a load.
func (in *inside) look(ctx context.Context) (s sight, err error) {
	if in == nil {
		return sight{cost: cost{processClient: ownCPU()}}, nil
	}
	if _, _, err = in.stores.drain(ctx); err != nil { // of what went before
		return s, err
	}
	forgetPeak(in.child.PID)
	if s.level, err = in.stores.level(ctx); err != nil {
		return s, err
	}
	if s.goroutines, err = in.child.goroutines(ctx); err != nil {
		return s, err
	}
	s.cost = in.used()
	return s, nil
}

// used is the CPU time so far. Where the system does not tell that of others, that of this process alone.
func (in *inside) used() cost {
	c := cost{}
	if f, err := familyOf(in.child.PID); err == nil {
		c = f.cost()
	}
	c[processClient] = ownCPU()
	return c
}

// cost is what a load has cost, from before its warm-up until the tables have all of it, per request that was answered.
func (in *inside) cost(ctx context.Context, before sight, answered int64, idle time.Duration) (*Cost, error) {
	c := &Cost{Requests: answered, CPU: map[string]float64{}}
	n := float64(max(1, answered))
	if in == nil {
		c.CPU[processClient] = microseconds(ownCPU()-before.cost[processClient]) / n
		return c, nil
	}
	client := ownCPU() // what comes now is our looking, not the load's
	inside := &Inside{}
	c.Inside = inside
	lag, took, err := in.stores.drain(ctx)
	if err != nil {
		return nil, err
	}
	inside.Behind, inside.DrainSeconds = lag, took.Seconds()
	used := in.used()
	used[processClient] = client
	for name, d := range used.minus(before.cost) {
		c.CPU[name] = microseconds(d) / n
	}
	after, err := in.stores.level(ctx)
	if err != nil {
		return nil, err
	}
	inside.JetStreamBytes = float64(after.writtenSince(before.level)) / n
	inside.PostgresBytes = float64(after.database-before.level.database) / n
	inside.WALBytes = float64(after.wal-before.level.wal) / n
	if f, err := familyOf(in.child.PID); err == nil {
		inside.Memory = f.memory()
	}
	inside.GoroutinesBefore = before.goroutines
	if inside.Goroutines, err = in.child.goroutines(ctx); err != nil {
		return nil, err
	}
	if idle > 0 {
		inside.Idle, err = in.rest(ctx, idle)
	}
	return c, err
}

// rest lets the platform idle for a while, and tells what it still holds.
func (in *inside) rest(ctx context.Context, idle time.Duration) (*Idle, error) {
	select {
	case <-time.After(idle):
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l, err := in.stores.level(ctx)
	if err != nil {
		return nil, err
	}
	goroutines, err := in.child.goroutines(ctx)
	return &Idle{
		Seconds: idle.Seconds(), ResidentBytes: resident(in.child.PID), JetStreamBytes: l.bytes(), PostgresBytes: l.database,
		Goroutines: goroutines,
	}, err
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
