package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/platform"
	"github.com/agentflow/agentflow/test/process"
)

// order is a workflow that was handed in, under an idempotency key.
type order struct {
	key    string
	body   []byte
	cancel bool
	ids    map[string]bool // that were answered: one, if any
}

// hand hands an order in, once. It reports whether it was accepted.
func (f *fleet) hand(o *order) bool {
	status, body, err := f.call(http.MethodPost, "/workflows/execute", o.body, "Prefer", "respond-async", "Idempotency-Key", o.key)
	if err != nil || status != http.StatusAccepted {
		f.count("starts answered with an error, and repeated")
		return false
	}
	var accepted struct {
		ID string `json:"execution_id"`
	}
	if json.Unmarshal(body, &accepted) != nil || accepted.ID == "" {
		return false
	}
	o.ids[accepted.ID] = true
	return true
}

// work hands in orders until the time is over, and returns them all.
func (f *fleet) work(until time.Time, seed uint64, number int, outside string) []*order {
	r := rand.New(rand.NewPCG(seed, uint64(number)))
	var orders []*order
	for n := 0; time.Now().Before(until); n++ {
		spec := randomWorkflow(r, outside)
		body, err := json.Marshal(object{"workflow": spec, "initial_state": object{"user_input": fmt.Sprint(number, n)}})
		if err != nil {
			f.tb.Error(err)
			return orders
		}
		o := &order{key: fmt.Sprintf("%d/%d", number, n), body: body, ids: map[string]bool{}, cancel: r.IntN(20) == 0}
		orders = append(orders, o)
		if f.hand(o) {
			again := r.IntN(10) == 0
			if again {
				f.hand(o)
			}
			for id := range o.ids {
				if o.cancel {
					_, _, _ = f.call(http.MethodPost, "/executions/"+id+"/cancel", nil) // whatever comes of it
				}
			}
		}
		let(time.Duration(r.IntN(200)) * time.Millisecond)
	}
	return orders
}

// disturb lets one thing after another go wrong until the time is over, and then sees that everything runs.
func (f *fleet) disturb(until time.Time, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1<<32))
	ctx := f.tb.Context()
	check := func(what string, err error) {
		if err != nil {
			f.tb.Errorf("%s: %v", what, err)
		}
	}
	var pauses sync.WaitGroup
	for time.Now().Before(until) {
		let(time.Duration(100+r.IntN(700)) * time.Millisecond)
		e := f.executors[r.IntN(len(f.executors))]
		switch n := r.IntN(20); {
		case n < 6:
			f.count("executors killed")
			e.kill()
		case n < 8:
			f.count("executors asked to stop")
			e.signal(syscall.SIGTERM)
		case n < 12:
			f.count("executors suspended")
			length := time.Duration(r.IntN(2000)) * time.Millisecond
			if r.IntN(3) > 0 {
				length += ackWait // long enough to lose what it has
			}
			pauses.Go(func() { f.suspend(e, length) })
		case n < 14:
			f.count("NATS killed")
			f.nats.kill()
		case n < 15:
			f.count("Postgres killed")
			check("kill Postgres", f.postgres.Kill())
			let(time.Duration(r.IntN(1000)) * time.Millisecond)
			check("start Postgres", f.postgres.Start(ctx))
		case n < 16:
			f.count("Redis killed")
			check("kill Redis", f.redis.Kill())
			let(time.Duration(r.IntN(1000)) * time.Millisecond)
			check("start Redis", f.redis.Start(ctx))
		case n < 18:
			f.count("gateways killed")
			f.gateway.kill()
		case n < 19:
			f.count("catalogs killed")
			f.catalog.kill()
		default:
			f.count("limiters killed")
			f.limiter.kill()
		}
	}
	pauses.Wait()
}

func (f *fleet) suspend(e *program, length time.Duration) {
	p := pause{from: time.Now()}
	e.pause()
	let(length)
	p.resumed = time.Now()
	e.resume()
	p.running = time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pauses = append(f.pauses, p)
}

// TestChaos is the proof: whatever goes wrong, what was accepted ends once, and nothing is done again after it was
// committed.
func TestChaos(t *testing.T) {
	t.Parallel()
	length, seed := duration, uint64(time.Now().UnixNano())
	if s := os.Getenv("AGENTFLOW_CHAOS_SECONDS"); s != "" {
		n, err := strconv.Atoi(s)
		require.NoError(t, err)
		length = time.Duration(n) * time.Second
	}
	if s := os.Getenv("AGENTFLOW_CHAOS_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("AGENTFLOW_CHAOS_SEED=%d", seed)
	began := time.Now()
	phase := func(name string) {
		t.Logf("%5.1f s: %s", time.Since(began).Seconds(), name)
	}
	f := startFleet(t)
	phase("the fleet is up")
	outside := newWorld(t)
	f.settle(outside)
	before := f.resources()

	const clients = 3
	until := time.Now().Add(length)
	handed := make([][]*order, clients)
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() { handed[i] = f.work(until, seed, i, outside.URL) })
	}
	all.Go(func() { f.disturb(until, seed) })
	all.Wait()
	f.awaitReady()
	phase("everything runs again")

	// Whoever got no answer asks again: then it is known that it was accepted.
	var ids []string
	for _, orders := range handed {
		for _, o := range orders {
			if len(o.ids) == 0 {
				platform.Await(t, "order "+o.key+" to be accepted", func() bool { return f.hand(o) })
			}
			require.Len(t, o.ids, 1, "one key, one execution")
			for id := range o.ids {
				ids = append(ids, id)
			}
		}
	}
	verdict := f.judge(ids, outside)
	phase("all have ended")
	f.verify()
	phase("the tables equal the log")
	f.noLeaks(before, outside)
	phase("nothing leaked")
	t.Logf("%d executions accepted in %v: %v", len(ids), length, verdict)
	t.Logf("%d calls outside; went wrong: %v", outside.total(), f.counts)
}

// settle runs a few executions, so that pools and caches are warm.
func (f *fleet) settle(outside *world) {
	f.tb.Helper()
	for n := range 20 {
		o := &order{key: fmt.Sprint("warm ", n), ids: map[string]bool{}}
		o.body = fmt.Appendf(nil, `{"workflow":%s}`, two(outside))
		require.True(f.tb, f.hand(o))
		for id := range o.ids {
			platform.Await(f.tb, "the end of "+id, func() bool {
				_, body, err := f.call(http.MethodGet, "/executions/"+id, nil)
				return err == nil && strings.Contains(string(body), `"status":"COMPLETED"`)
			})
		}
	}
}

// resources are what the services hold: goroutines and open files, connections among them.
func (f *fleet) resources() map[string]float64 {
	f.tb.Helper()
	out := map[string]float64{}
	for _, p := range f.services() {
		for _, name := range []string{"go_goroutines", "process_open_fds"} {
			out[p.Name+" "+name] = p.metric(f.tb, name)
		}
	}
	return out
}

// noLeaks waits until the services hold about what they held before the work.
func (f *fleet) noLeaks(before map[string]float64, outside *world) {
	f.tb.Helper()
	const slack = 40 // pools of connections that had not been full
	f.client.CloseIdleConnections()
	outside.CloseClientConnections()
	var after map[string]float64
	var over []string
	platform.Await(f.tb, "the services to let go of what they held", func() bool {
		after, over = f.resources(), nil
		for name, n := range after {
			if n > before[name]+slack {
				over = append(over, fmt.Sprintf("%s: %v, was %v", name, n, before[name]))
			}
		}
		if len(over) > 0 {
			f.tb.Log(over)
		}
		return len(over) == 0
	})
}

// verify compares every table with the log.
func (f *fleet) verify() {
	f.tb.Helper()
	bin, err := binaries()
	require.NoError(f.tb, err)
	ctx, cancel := context.WithTimeout(f.tb.Context(), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "agentflow"), "verify")
	cmd.Env = process.Environment("NATS_URL="+f.nurl, "DATABASE_URL="+f.postgres.URL(), fmt.Sprintf("EXECUTION_PARTITIONS=%d", partitions))
	out, err := cmd.CombinedOutput()
	require.NoError(f.tb, err, "%s", out)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	f.tb.Log("agentflow verify: " + lines[len(lines)-1])
}
