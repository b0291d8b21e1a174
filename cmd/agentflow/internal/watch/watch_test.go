package watch_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/watch"
)

// history is an execution in the events that the API sends; at is seconds after it was requested.
func event(t *testing.T, at float64, kind, data string) (watch.Event, json.RawMessage) {
	t.Helper()
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC).Add(time.Duration(at * float64(time.Second)))
	raw := json.RawMessage(fmt.Sprintf(`{"sequence":1,"index":0,"type":%q,"at":%q,"data":%s}`, kind+".v1", when.Format(time.RFC3339Nano), data))
	e, err := watch.Read(raw)
	require.NoError(t, err)
	return e, raw
}

const spec = `{"start_node":"ask","nodes":[{"id":"ask","type":"input"},{"id":"model","type":"llm","metadata":{"prompt":"x"}},
	{"id":"pro","type":"aggregator"},{"id":"never","type":"aggregator"}],
	"edges":[{"from":"ask","to":"model"},{"from":"model","to":["pro","never"]},{"from":"pro","to":"ask"}]}`

func TestTree(t *testing.T) {
	t.Parallel()
	tree := watch.NewTree("exec_1")
	marked := watch.Palette{Good: mark("g"), Bad: mark("b"), Waits: mark("w"), Dim: mark("d"), Bold: mark("B")}
	now := time.Date(2026, 1, 2, 3, 4, 8, 0, time.UTC)
	draw := func(p watch.Palette, width int) string { return strings.Join(tree.Draw(now, p, width), "\n") }
	apply := func(at float64, kind, data string) {
		e, _ := event(t, at, kind, data)
		tree.Apply(e)
	}

	require.Equal(t, "exec_1  PENDING", draw(watch.Plain, 0))
	apply(0, "requested", `{"workflow_id":"wf_1","workflow_version":2,"workflow_name":"evil \u001b[31m"}`)
	tree.Outline(json.RawMessage(spec))
	require.Equal(t, "exec_1  PENDING  3s  evil �[31m\n└─ · ask\n   └─ · model\n      ├─ · pro\n      └─ · never", draw(watch.Plain, 0))
	apply(1, "node_completed", `{"node":"ask","attempt":1,"duration_ms":2}`)
	tree.Progress(json.RawMessage(`{"type":"node_started","node":"model","attempt":1,"at":"2026-01-02T03:04:06.5Z"}`))
	tree.Progress(json.RawMessage(`{"type":"tokens","node":"model","text":"Once\n upon"}`))
	tree.Progress(json.RawMessage(`{"type":"news"}`))
	require.Contains(t, draw(watch.Plain, 0), "   └─ ▸ model  1.5s  Once� upon")
	apply(1, "node_rate_limited", `{"node":"model","queue":"q","limiting_metric":"tokens_per_minute"}`)
	require.Equal(t, "RUNNING", tree.Status())
	require.Contains(t, draw(watch.Plain, 0), "   └─ … model  waits for tokens_per_minute of q")
	apply(1, "node_failed", `{"node":"model","attempt":1,"duration_ms":5,"next_try_at":"2026-01-02T03:04:07Z","error":{"code":"NODE_FAILED","message":"429"}}`)
	require.Contains(t, draw(watch.Plain, 0), "↻ model  5ms  NODE_FAILED: 429")
	apply(2, "node_completed", `{"node":"model","attempt":2,"duration_ms":1250,"tokens":40,"cost":"0.5"}`)
	apply(2, "node_completed", `{"node":"ask","attempt":1,"duration_ms":1}`)
	apply(2, "node_completed", `{"node":"model","iteration":1,"attempt":1,"duration_ms":12345,"tokens":2,"intent":"pro"}`)
	apply(2.5, "timed_out", `{"scope":"node","node":"pro","totals":{"tokens_used":42,"cost":"0.5","duration_ms":2500}}`)
	require.Equal(t, "TIMED_OUT", tree.Status())
	require.Equal(t, strings.Join([]string{
		"exec_1  TIMED_OUT  2.5s  42 tokens  cost 0.5  evil �[31m",
		"└─ ✓ ask  1ms  ×2",
		"   └─ ✓ model  12.3s  42 tokens  ×2  → pro",
		"      ├─ ✗ pro",
		"      └─ · never",
	}, "\n"), draw(watch.Plain, 0))
	require.Equal(t, "exec_1  TI\n└─ ✓ ask  \n   └─ ✓ mo\n      ├─ ✗\n      └─ ·", draw(watch.Plain, 10))
	require.Contains(t, draw(marked, 0), "B(exec_1)  b(TIMED_OUT)")
	require.Contains(t, draw(marked, 0), "d(└─ )g(✓) ask")
}

func mark(name string) func(string) string {
	return func(text string) string { return name + "(" + text + ")" }
}

// On a terminal the tree is drawn over itself, and never higher than the terminal until the end.
func TestLive(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tree := watch.NewTree("exec_1")
	live := watch.Live(&out, tree, watch.Plain, func() (int, int) { return 40, 3 })
	for i := range 4 {
		e, raw := event(t, 0, "node_completed", fmt.Sprintf(`{"node":"n%d","duration_ms":1}`, i))
		tree.Apply(e)
		require.NoError(t, live.Event(e, raw))
	}
	require.True(t, strings.HasSuffix(out.String(), "\x1b[2A\r\x1b[Jexec_1  RUNNING\n└─ ✓ n3  1ms\n"), "%q", out.String())
	out.Reset()
	require.NoError(t, live.End(time.Now()))
	require.Equal(t, "\x1b[2A\r\x1b[Jexec_1  RUNNING\n├─ ✓ n0  1ms\n├─ ✓ n1  1ms\n├─ ✓ n2  1ms\n└─ ✓ n3  1ms\n", out.String())
}

func TestLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tree := watch.NewTree("exec_1")
	lines := watch.Lines(&out, tree, watch.Plain)
	for _, one := range [][2]string{
		{"requested", `{}`},
		{"started", `{"delivery":2}`},
		{"node_failed", `{"node":"a","attempt":3,"duration_ms":7,"error":{"code":"X","message":"gone"}}`},
		{"failed", `{"error":{"code":"X","message":"gone","node":"a"},"totals":{"duration_ms":9}}`},
	} {
		e, raw := event(t, 0, one[0], one[1])
		tree.Apply(e)
		require.NoError(t, lines.Event(e, raw))
	}
	require.NoError(t, lines.End(time.Now()))
	require.Equal(t, `03:04:05.000  requested
03:04:05.000  started  executor no. 2
03:04:05.000  node_failed  a  7ms, attempt 3, X: gone
03:04:05.000  failed  9ms, X: gone
exec_1  FAILED  0s
└─ ✗ a  7ms  attempt 3  X: gone
X: gone
`, out.String())
}

func TestStream(t *testing.T) {
	t.Parallel()
	var got []string
	text := ": watching\nretry: 1000\n\nid: 1.0\nevent: requested.v1\ndata: {\"a\":\ndata: 1}\n\nevent: progress\ndata: {}\n\nid: 2.0\nevent: completed.v1\ndata: {}\n\nid: 3.0\ndata: cut off"
	require.NoError(t, watch.Stream(strings.NewReader(text), func(m watch.Message) error {
		got = append(got, fmt.Sprintf("%s|%s|%s|%v", m.ID, m.Event, m.Data, m.Terminal()))
		return nil
	}))
	require.Equal(t, []string{"1.0|requested.v1|{\"a\":\n1}|false", "|progress|{}|false", "2.0|completed.v1|{}|true"}, got)
}
