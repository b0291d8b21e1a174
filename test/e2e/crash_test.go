package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// errand is a workflow with outside calls in a row and side by side: each of its commits is a boundary to die at.
const errand = `{
  "start_node": "in",
  "nodes": [
    {"id": "in", "type": "input"},
    {"id": "first", "type": "llm", "metadata": {"source_id": "model", "prompt_template": "first {user_input}", "output_key": "a"}},
    {"id": "left", "type": "llm", "metadata": {"source_id": "model", "prompt_template": "left {a}", "output_key": "b"}},
    {"id": "right", "type": "api", "metadata": {"source_id": "tools", "method": "POST", "endpoint": "/right", "body": {"text": "{a}"}, "response": "text"}},
    {"id": "join", "type": "aggregator", "metadata": {"strategy": "template", "template": "{b} & {api_result.data}", "include_metadata": false, "output_key": "both"}},
    {"id": "last", "type": "llm", "metadata": {"source_id": "model", "prompt_template": "last {both}"}}
  ],
  "edges": [
    {"from": "in", "to": "first"},
    {"from": "first", "to": ["left", "right"]},
    {"from": "left", "to": "join"},
    {"from": "right", "to": "join"},
    {"from": "join", "to": "last"}
  ],
  "sources": [
    {"id": "model", "kind": "llm", "config": %s},
    {"id": "tools", "kind": "api", "config": {"base_url": %q}}
  ]
}`

// errandSteps are the calls of errand, by the end of their idempotency keys.
var errandSteps = []string{"first/0", "last/0", "left/0", "right/0"}

// errandResult is what errand writes last, for an input.
func errandResult(input string) string {
	a := "re: first " + input
	return "re: last re: left " + a + " & right " + a
}

// reaper is the outside world of errand. It answers, and when it is armed it kills the platform at a request of its choice.
type reaper struct {
	*fakeprovider.Server
	t *testing.T
	p *platform.Platform

	mu     sync.Mutex
	count  int  // requests since it was armed
	at     int  // which of them to kill at; 0 for none
	before bool // as it arrives, else when it has been answered
	killed chan struct{}
}

func newReaper(t *testing.T) *reaper {
	t.Helper()
	r := &reaper{t: t}
	r.Server = fakeprovider.New(t, r.answer)
	return r
}

func (r *reaper) answer(req fakeprovider.Request) fakeprovider.Reply {
	reply := fakeprovider.Text("re: " + req.Prompt)
	if req.Wire == fakeprovider.Plain {
		text, _ := req.JSON()["text"].(string)
		reply = fakeprovider.Text("right " + text)
	}
	r.mu.Lock()
	r.count++
	mine, before := r.at != 0 && r.count == r.at, r.before
	r.mu.Unlock()
	switch {
	case mine && before:
		r.kill()
	case mine:
		reply.After = r.kill
	}
	return reply
}

// arm chooses the request to kill at, counted from now; 0 leaves it to the caller.
func (r *reaper) arm(at int, before bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.count, r.at, r.before, r.killed = 0, at, before, make(chan struct{})
}

// calls is the number of requests since it was armed.
func (r *reaper) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

func (r *reaper) kill() {
	r.mu.Lock()
	r.at = 0
	killed := r.killed
	r.mu.Unlock()
	if err := r.p.Kill(); err != nil {
		r.t.Errorf("kill the platform: %v", err)
	}
	close(killed)
}

// order is an execution that was asked for, under an idempotency key, until it is known to be accepted.
type order struct {
	key, input string
	id         string // "" until it is accepted
}

// ledger is what must never be undone: how often a step had been called when it was seen committed.
type ledger map[string]int

// TestCrash kills the platform, again and again, while executions are under way: as each of their outside calls arrives,
// when it has just been answered, and at random moments. Every execution that was accepted must end once, with the
// result of an undisturbed one, and no step that was committed may run again.
func TestCrash(t *testing.T) {
	t.Parallel()
	world := newReaper(t)
	p := platform.Start(t, platform.Options{Env: []string{
		"AGENTFLOW_SECRET_MODEL=" + modelKey, "LOG_LEVEL=warn",
		"EXECUTOR_ACK_WAIT_SECONDS=2", "EXECUTOR_MAX_TAKEOVERS=50", // taken over soon, however often it was bad luck
	}})
	world.p = p
	config, err := json.Marshal(priced(object{"provider": "openai", "model": "gpt-4o-mini", "base_url": world.OpenAI()}))
	require.NoError(t, err)
	spec := json.RawMessage(fmt.Sprintf(errand, config, world.Tools()))

	var orders []*order
	kills := 0
	committed := ledger{}
	submit := func(o *order) {
		a, err := p.Try(t, http.MethodPost, "/workflows/execute", object{"workflow": spec, "initial_state": object{"user_input": o.input}},
			"Prefer", "respond-async", "Idempotency-Key", o.key)
		if err != nil {
			return // killed: whether it was accepted is not known
		}
		require.Equal(t, http.StatusAccepted, a.Status, "%s", a.Body)
		id, _ := a.JSON(t)["execution_id"].(string)
		require.NotEmpty(t, id)
		if o.id != "" {
			require.Equal(t, o.id, id, "one key, one execution")
		}
		o.id = id
	}
	const each = 3 // executions per kill
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	round := func(name string, at int, before bool, after time.Duration) {
		children, err := platform.Descendants(p.Ready().PID)
		require.NoError(t, err)
		require.NotEmpty(t, children, "Postgres and Redis")
		world.arm(at, before) // not earlier: what is left of the last round calls, too
		var wg sync.WaitGroup
		for i := range each {
			o := &order{key: fmt.Sprintf("%s/%d", name, i), input: fmt.Sprintf("%s %d", name, i)}
			orders = append(orders, o)
			wg.Go(func() { submit(o) })
		}
		wg.Wait()
		if after > 0 {
			time.AfterFunc(after, world.kill)
		}
		select {
		case <-world.killed:
		case <-time.After(time.Minute):
			t.Fatalf("%s: the platform was not killed: %d calls came", name, world.calls())
		}
		kills++
		platform.Await(t, "the end of the platform's children", func() bool { return len(platform.Running(children)) == 0 })
		world.arm(0, false)
		require.NoError(t, p.Restart(t.Context()))
		for _, o := range orders[max(0, len(orders)-2*each):] {
			submit(o) // again, under the same key: those that were accepted answer with their id
			require.NotEmpty(t, o.id)
			committed.read(t, p, world, o)
		}
	}

	calls := each * len(errandSteps)
	for _, at := range []int{1, 2, 5, 8, calls} {
		for _, before := range []bool{true, false} {
			name := fmt.Sprintf("call %d before %v", at, before)
			round(name, at, before, 0)
		}
	}
	for i := range 3 {
		round(fmt.Sprintf("random %d", i), 0, false, time.Duration(random.IntN(60_000_000))+time.Millisecond)
	}

	for _, o := range orders {
		e := p.AwaitEnd(t, o.id)
		require.Equal(t, "COMPLETED", e.Status, "%s: %+v", o.key, e.Error)
		require.Equal(t, errandResult(o.input), e.FinalState["text_result"])
		require.EqualValues(t, 54, e.TokensUsed, "three models, once each")
		requireOnce(t, o, p.Events(t, o.id))
	}
	made := world.Calls()
	require.Greater(t, len(committed), kills, "most kills leave something behind that was committed")
	for key, then := range committed {
		require.Equal(t, then, made[key], "%s ran again after it was committed", key)
	}
	byExecution := map[string][]string{}
	for key, n := range made {
		require.LessOrEqual(t, n, 1+kills)
		id, step, ok := strings.Cut(key, "/")
		require.True(t, ok)
		byExecution[id] = append(byExecution[id], step)
	}
	require.Len(t, byExecution, len(orders), "every order is one execution")
	for _, o := range orders {
		slices.Sort(byExecution[o.id])
		require.Equal(t, errandSteps, byExecution[o.id], "keys stay the same over all attempts")
	}
	requireListed(t, p, orders)
	repeats := 0
	for _, n := range made {
		repeats += n - 1
	}
	t.Logf("%d executions, %d kills, %d calls, %d of them repeated", len(orders), kills, len(world.Requests()), repeats)
}

// read notes the steps of an execution that are committed, and how often each has been called by now.
func (l ledger) read(t *testing.T, p *platform.Platform, world *reaper, o *order) {
	t.Helper()
	events := p.Events(t, o.id)
	made := world.Calls() // after the events: what was committed then may have been called before, never after
	for _, e := range events {
		if e.Type != "node_completed.v1" {
			continue
		}
		key := fmt.Sprintf("%s/%v/%v", o.id, e.Data["node"], e.Data["iteration"])
		if _, known := l[key]; !known && made[key] > 0 {
			l[key] = made[key]
		}
	}
}

// requireOnce holds the events of an execution against the promise: each node once, one end, nothing behind it.
func requireOnce(t *testing.T, o *order, events []platform.Event) {
	t.Helper()
	var completed []string
	ends := 0
	for i, e := range events {
		switch {
		case e.Type == "node_completed.v1":
			completed = append(completed, fmt.Sprintf("%v/%v", e.Data["node"], e.Data["iteration"]))
		case e.Terminal():
			ends++
			require.Equal(t, len(events)-1, i, "%s: the end is the last event", o.key)
		}
	}
	slices.Sort(completed)
	require.Equal(t, []string{"first/0", "in/0", "join/0", "last/0", "left/0", "right/0"}, completed, o.key)
	require.Equal(t, 1, ends, o.key)
}

// requireListed waits until the archive lists every execution, once.
func requireListed(t *testing.T, p *platform.Platform, orders []*order) {
	t.Helper()
	want := make([]string, len(orders))
	for i, o := range orders {
		want[i] = o.id
	}
	var got []string
	platform.Await(t, "the list of executions", func() bool {
		got = got[:0]
		for skip := 0; ; skip += 50 {
			var page struct {
				Items []platform.Execution `json:"items"`
				More  bool                 `json:"has_more"`
			}
			p.Get(t, fmt.Sprintf("/executions?status=COMPLETED&limit=50&skip=%d", skip)).Decode(t, &page)
			for _, e := range page.Items {
				got = append(got, e.ID)
			}
			if !page.More {
				return len(got) >= len(want)
			}
		}
	})
	require.ElementsMatch(t, want, got)
}
