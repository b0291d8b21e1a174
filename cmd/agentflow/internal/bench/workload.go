package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// Workload is something to load a platform with.
type Workload struct {
	Name  string
	About string

	order     func(*target) order // of workloads of one workflow
	clients   func(*target, int) (sender, error)
	execution bool // each request is an execution
	start     bool // no load: platforms are started
	kept      bool // many workflows stand there
}

// What runs when nothing else is asked for.
var (
	ThreeStep = Workload{Name: "three-step", About: "three nodes that call nothing outside", order: threeStep, execution: true}
	Chat      = Workload{Name: "chat", About: "a language model that answers at once (echo)", order: chat, execution: true}
)

// single are the workloads that mixed is made of.
var single = []Workload{
	ThreeStep,
	Chat,
	{Name: "api", About: "one call of an API on loopback that takes 5 ms", order: apiCall, execution: true},
	{Name: "fan-out", About: "twenty such calls side by side, then a join", order: fanOut, execution: true},
	{Name: "limited", About: "three-step with a queue whose limit is never reached", order: limited, execution: true},
	{Name: "crud", About: "a workflow stored, read, listed and deleted, in turn", clients: crud},
}

// Workloads are all there are, in the order in which they are told about.
var Workloads = append(slices.Clone(single), []Workload{
	{Name: "store", About: "workflows stored", clients: store},
	{Name: "read", About: "one workflow read", clients: read},
	{Name: "list", About: "the first pages of 50 out of 100,000 workflows", clients: list, kept: true},
	{Name: "pages", About: "executions listed: the newest, the page behind, and those that completed", clients: pages},
	{Name: "mixed", About: "of 20 requests 9 three-step, 4 chat, 2 api, 1 fan-out, 2 limited, 2 crud", clients: mixed},
	{Name: "start", About: "agentflow up, on an empty folder and again", start: true},
}...)

// Find returns the workload of a name.
func Find(name string) (Workload, bool) { return find(Workloads, name) }

func find(in []Workload, name string) (Workload, bool) {
	i := slices.IndexFunc(in, func(w Workload) bool { return w.Name == name })
	if i < 0 {
		return Workload{}, false
	}
	return in[i], true
}

// target is the platform under load.
type target struct {
	api     *api
	outside string            // address of the API that workflows call
	run     string            // tells the names of this run from those of others
	stored  map[string]string // ids of workflows by the name of their workload; nil: workflows travel in the request
	cruds   []*crudClient

	mu   sync.Mutex
	made []string // ids of workflows that clients stored, to be deleted in the end
}

// order is one execution to ask for, and what must be in the answer.
type order struct {
	workflow string
	input    string
	want     string
}

// sender is the sender of one client.
func (w Workload) sender(t *target, client int) (sender, error) {
	if w.clients != nil {
		return w.clients(t, client)
	}
	o := w.order(t)
	path, body := "/workflows/execute", `{"workflow":`+o.workflow+`,"initial_state":`+o.input+`}`
	if id := t.stored[w.Name]; id != "" {
		path, body = "/workflows/"+id+"/execute", `{"initial_state":`+o.input+`}`
	}
	r := t.api.request(http.MethodPost, path, []byte(body))
	want := []byte(o.want)
	return func(context.Context) outcome { return outcome{w.Name, r.send(http.StatusOK, want)} }, nil
}

// store keeps the workflow of a workload on the platform, to be run by its id.
func (t *target) store(w Workload) error {
	if w.order == nil || t.stored[w.Name] != "" {
		return nil
	}
	id, err := t.create("bench "+t.run+" "+w.Name, w.order(t).workflow)
	if err != nil {
		return err
	}
	t.stored[w.Name] = id
	return nil
}

// forget deletes what store kept, and what clients of crud had not come to deleting.
func (t *target) forget() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	ids := append(slices.Collect(maps.Values(t.stored)), t.made...)
	for _, c := range t.cruds {
		if c.id != "" {
			ids = append(ids, c.id)
		}
	}
	for _, id := range ids {
		r := t.api.request(http.MethodDelete, "/workflows/"+id, nil)
		if fault := r.send(http.StatusOK, nil); fault != "" {
			return fmt.Errorf("delete workflow %s: %w", id, r.explain(fault))
		}
	}
	t.stored, t.cruds, t.made = nil, nil, nil
	return nil
}

func (t *target) create(name, spec string) (id string, err error) {
	r := t.api.request(http.MethodPost, "/workflows", newWorkflow(name, spec))
	if fault := r.send(http.StatusCreated, nil); fault != "" {
		return "", fmt.Errorf("store workflow %q: %w", name, r.explain(fault))
	}
	return idOf(r.resp.Body())
}

func newWorkflow(name, spec string) []byte {
	return []byte(`{"name":` + strconv.Quote(name) + `,"status":"published","spec":` + spec + `}`)
}

func idOf(body []byte) (string, error) {
	var made struct {
		ID string `json:"id"`
	}
	if err := json.Unmarshal(body, &made); err != nil || made.ID == "" {
		return "", fmt.Errorf("the answer names no workflow: %.200s", body)
	}
	return made.ID, nil
}

// try makes one request of each kind, so that what cannot work is told in full, once, and not counted a thousand times.
func (w Workload) try(ctx context.Context, t *target) error {
	if w.clients != nil {
		send, err := w.clients(t, -1)
		if err != nil {
			return err
		}
		for range len(deck) + 4 {
			if o := send(ctx); o.fault != "" {
				return fmt.Errorf("workload %s does not work here: %s: %s", w.Name, o.kind, o.fault)
			}
		}
		return nil
	}
	o := w.order(t)
	r := t.api.request(http.MethodPost, "/workflows/execute", []byte(`{"workflow":`+o.workflow+`,"initial_state":`+o.input+`}`))
	if fault := r.send(http.StatusOK, []byte(o.want)); fault != "" {
		return fmt.Errorf("workload %s does not work here: %w", w.Name, r.explain(fault))
	}
	return nil
}

const threeStepWorkflow = `{"name":"three-step","start_node":"ask","nodes":[` +
	`{"id":"ask","type":"input","metadata":{"validate":{"required":true}}},` +
	`{"id":"pick","type":"router","metadata":{"strategy":"keyword","routes":[` +
	`{"intent":"refund","keywords":["refund","money back"]},{"intent":"order","keywords":["order","buy"]}]}},` +
	`{"id":"answer","type":"aggregator","metadata":{"strategy":"template","template":"{intent}: {user_input}"}}],` +
	`"edges":[{"from":"ask","to":"pick"},{"from":"pick","to":"answer"}]%s}`

func threeStep(*target) order {
	return order{
		workflow: fmt.Sprintf(threeStepWorkflow, ""),
		input:    `{"user_input":"Where is my refund for 4711?"}`, want: `refund: Where is my refund for 4711?`,
	}
}

// limited has room for more than any machine can do: it shows what asking costs.
func limited(*target) order {
	return order{
		workflow: fmt.Sprintf(threeStepWorkflow, `,"queues":[{"id":"wide","from":"ask","to":"pick","bandwidth":{"max_messages_per_second":1000000}}]`),
		input:    `{"user_input":"Where is my refund for 4711?"}`, want: `refund: Where is my refund for 4711?`,
	}
}

func chat(*target) order {
	return order{
		workflow: `{"name":"chat","start_node":"ask","nodes":[` +
			`{"id":"ask","type":"input"},` +
			`{"id":"reply","type":"llm","metadata":{"source_id":"model","system_prompt":"You are brief.","prompt_template":"In one sentence: {user_input}"}},` +
			`{"id":"answer","type":"aggregator","metadata":{"strategy":"select","select_key":"text_result"}}],` +
			`"edges":[{"from":"ask","to":"reply"},{"from":"reply","to":"answer"}],` +
			`"sources":[{"id":"model","kind":"llm","config":{"provider":"echo"}}]}`,
		input: `{"user_input":"why is the sky blue?"}`, want: `In one sentence: why is the sky blue?`,
	}
}

func apiCall(t *target) order {
	return order{
		workflow: `{"name":"api","start_node":"call","nodes":[` +
			`{"id":"call","type":"api","metadata":{"source_id":"shop","endpoint":"/orders/{order}"}},` +
			`{"id":"answer","type":"aggregator","metadata":{"strategy":"template","template":"order {order} is {api_result.data.status}"}}],` +
			`"edges":[{"from":"call","to":"answer"}],` + t.shop() + `}`,
		input: `{"order":"4711"}`, want: `order 4711 is shipped`,
	}
}

const branches = 20

func fanOut(t *target) order {
	var nodes, names, keys []string
	for i := range branches {
		name := fmt.Sprintf("call%02d", i)
		names = append(names, strconv.Quote(name))
		keys = append(keys, strconv.Quote("r"+name))
		nodes = append(nodes, fmt.Sprintf(`{"id":%q,"type":"api","metadata":{"source_id":"shop","endpoint":"/orders/{order}/%d","output_key":%q}}`, name, i, "r"+name))
	}
	return order{
		workflow: `{"name":"fan-out","start_node":"ask","nodes":[{"id":"ask","type":"input","metadata":{"input_key":"order"}},` + strings.Join(nodes, ",") +
			`,{"id":"answer","type":"aggregator","metadata":{"strategy":"merge","include_metadata":false,"source_keys":[` + strings.Join(keys, ",") + `]}}],` +
			`"edges":[{"from":"ask","to":[` + strings.Join(names, ",") + `]}` + joins(names) + `],` + t.shop() + `}`,
		input: `{"order":"4711"}`, want: `"status":"success"`,
	}
}

func joins(names []string) string {
	var b strings.Builder
	for _, name := range names {
		b.WriteString(`,{"from":` + name + `,"to":"answer"}`)
	}
	return b.String()
}

func (t *target) shop() string {
	return `"sources":[{"id":"shop","kind":"api","config":{"base_url":"` + t.outside + `","timeout":5}}]`
}

// deck is the order in which a client of mixed plays; each client begins at another place.
var deck = []string{
	"three-step", "chat", "three-step", "crud", "three-step", "api", "three-step", "limited", "chat", "three-step",
	"fan-out", "three-step", "chat", "three-step", "crud", "api", "three-step", "limited", "chat", "three-step",
}

func mixed(t *target, client int) (sender, error) {
	senders := make(map[string]sender, len(deck))
	for _, name := range deck {
		if senders[name] != nil {
			continue
		}
		w, _ := find(single, name) // the deck names none that is not there: a test sees to it
		send, err := w.sender(t, client)
		if err != nil {
			return nil, err
		}
		senders[name] = send
	}
	turn := max(0, client)
	return func(ctx context.Context) outcome {
		name := deck[turn%len(deck)]
		turn++
		return senders[name](ctx)
	}, nil
}
