package redis

import (
	"context"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

const (
	// laneCount is how many batches can be on their way to Redis.
	laneCount = 4
	// laneBatch is how many decisions travel together at most. They run one after the other, so a
	// batch must fit into a fraction of the time that each of them has.
	laneBatch = 64
)

// lanes carry runs of the script to Redis. Runs that come while every lane is busy travel together
// in the next that is free, so that a busy limiter spends its time on decisions instead of on
// waking up for each; an idle one sends each at once.
type lanes struct {
	client  goredis.UniversalClient
	timeout time.Duration
	queue   chan *run
	stop    chan struct{}
	all     sync.WaitGroup
}

// run is one run of the script.
type run struct {
	ctx  context.Context //nolint:containedctx // of the caller, who may have gone when the turn comes
	keys []string
	args []any
	done chan outcome
}

type outcome struct {
	reply any
	err   error
}

func newLanes(client goredis.UniversalClient, timeout time.Duration) *lanes {
	l := &lanes{client: client, timeout: timeout, queue: make(chan *run, laneCount*laneBatch), stop: make(chan struct{})}
	for range laneCount {
		l.all.Go(l.carry)
	}
	return l
}

// close ends the lanes. Runs that still wait end with their own context.
func (l *lanes) close() {
	close(l.stop)
	l.all.Wait()
}

// do runs the script and waits for its answer, or for the end of ctx.
func (l *lanes) do(ctx context.Context, keys []string, args []any) (any, error) {
	r := &run{ctx: ctx, keys: keys, args: args, done: make(chan outcome, 1)}
	select {
	case l.queue <- r:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case o := <-r.done:
		return o.reply, o.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *lanes) carry() {
	batch := make([]*run, 0, laneBatch)
	for {
		select {
		case r := <-l.queue:
			batch = append(batch[:0], r)
		case <-l.stop:
			return
		}
	fill:
		for len(batch) < laneBatch {
			select {
			case r := <-l.queue:
				batch = append(batch, r)
			default:
				break fill
			}
		}
		l.send(batch)
	}
}

// send runs a batch, and those again with the source whose Redis does not know the script.
func (l *lanes) send(batch []*run) {
	ctx, cancel := context.WithTimeout(context.Background(), l.timeout)
	defer cancel()
	unknown := l.pipeline(ctx, batch, script.EvalSha)
	if len(unknown) > 0 {
		l.pipeline(ctx, unknown, script.Eval)
	}
}

type evaluate func(ctx context.Context, c goredis.Scripter, keys []string, args ...any) *goredis.Cmd

func (l *lanes) pipeline(ctx context.Context, batch []*run, eval evaluate) (unknown []*run) {
	pipe := l.client.Pipeline()
	cmds := make([]*goredis.Cmd, len(batch))
	for i, r := range batch {
		if r.ctx.Err() == nil { // nobody waits for the others, and they must not take anything
			cmds[i] = eval(ctx, pipe, r.keys, r.args...)
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its own error
	for i, r := range batch {
		switch {
		case cmds[i] == nil:
		case goredis.HasErrorPrefix(cmds[i].Err(), "NOSCRIPT"):
			unknown = append(unknown, r)
		default:
			reply, err := cmds[i].Result()
			r.done <- outcome{reply, err}
		}
	}
	return unknown
}
