package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/test/platform"
)

// threeCalls is a workflow of three outside calls in a row; its description makes the document as large as wanted.
const threeCalls = `{"start_node":"in","description":%q,"nodes":[
 {"id":"in","type":"input"},
 {"id":"a","type":"api","metadata":{"source_id":"tools","method":"POST","endpoint":"/a","body":{"text":"{user_input}"},"output_key":"a"}},
 {"id":"b","type":"api","metadata":{"source_id":"tools","method":"POST","endpoint":"/b","body":{"text":"{a.data.text}"},"output_key":"b"}},
 {"id":"c","type":"api","metadata":{"source_id":"tools","method":"POST","endpoint":"/c","body":{"text":"{b.data.text}"},"output_key":"c"}},
 {"id":"out","type":"aggregator","metadata":{"strategy":"select","select_key":"c.data.text","include_metadata":false}}],
 "edges":[{"from":"in","to":"a"},{"from":"a","to":"b"},{"from":"b","to":"c"},{"from":"c","to":"out"}],
 "sources":[{"id":"tools","kind":"api","config":{"base_url":%q}}]}`

// steps is the outside of threeCalls: it counts its calls, and refuses those to c until it is mended.
type steps struct {
	*httptest.Server
	mended atomic.Bool
	mu     sync.Mutex
	calls  map[string]int
}

func newSteps(t *testing.T) *steps {
	t.Helper()
	s := &steps{calls: map[string]int{}}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct{ Text string }
		_ = json.NewDecoder(r.Body).Decode(&body) // what is not there is not echoed
		s.mu.Lock()
		s.calls[r.URL.Path]++
		s.mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/c" && !s.mended.Load() {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(object{"text": body.Text + r.URL.Path}) // the client may have gone
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *steps) count() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("a%d b%d c%d", s.calls["/a"], s.calls["/b"], s.calls["/c"])
}

// TestRerun runs executions again, from the beginning and from a node, when Postgres alone remembers them.
func TestRerun(t *testing.T) {
	t.Parallel()
	world := newSteps(t)
	p := platform.Start(t, platform.Options{Env: []string{
		"AUTH_REQUIRED=true", "LOG_LEVEL=warn", "HOT_LOG_GRACE_SECONDS=0", "HOT_LOG_TRIM_SECONDS=100ms",
	}})
	acme, globex := found(t, p, "acme"), found(t, p, "globex")
	log, err := bus.Connect(t.Context(), bus.Config{URL: p.Ready().NATSURL})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	archived := func(id string) {
		t.Helper()
		platform.Await(t, id+" to be in the archive alone", func() bool {
			_, err := log.Load(t.Context(), log.Key("acme", protocol.ExecutionID(id)), 0)
			return errors.Is(err, bus.ErrNotFound)
		})
	}

	// A small document rides in the event; a large one stands in the bucket.
	for n, notes := range []string{"", strings.Repeat("x", 40<<10)} {
		world.mended.Store(false)
		large := strings.Repeat("t", n*300<<10) // so does the result of a node
		a := acme.Call(t, http.MethodPost, "/workflows/execute", object{
			"workflow": json.RawMessage(fmt.Sprintf(threeCalls, notes, world.URL)), "initial_state": object{"user_input": "hi" + large}, "tags": []string{"mine"},
		})
		require.Equal(t, http.StatusInternalServerError, a.Status, "%.500s", a.Body)
		id, _ := a.JSON(t)["execution_id"].(string)
		archived(id)
		rerun := "/executions/" + id + "/rerun"

		// Nothing has changed: it fails again, having called c alone.
		a = acme.Call(t, http.MethodPost, rerun, object{"from_node": "c"})
		require.Equal(t, http.StatusInternalServerError, a.Status, "%.500s", a.Body)
		second, _ := a.JSON(t)["execution_id"].(string)
		world.mended.Store(true)
		a = acme.Call(t, http.MethodPost, rerun, object{"from_node": "c"}, "Idempotency-Key", "again "+id)
		require.Equal(t, http.StatusOK, a.Status, "%.500s", a.Body)
		require.Equal(t, "hi"+large+"/a/b/c", a.JSON(t)["final_state"].(object)["final_output"])
		once := a.JSON(t)["execution_id"].(string)
		a = acme.Call(t, http.MethodPost, rerun, object{"from_node": "c"}, "Idempotency-Key", "again "+id)
		require.Equal(t, http.StatusOK, a.Status)
		require.Equal(t, once, a.JSON(t)["execution_id"], "one key, one execution")
		require.Equal(t, "true", a.Header.Get("Idempotency-Replayed"))
		a = acme.Call(t, http.MethodPost, rerun, object{"from_node": "b"}, "Idempotency-Key", "again "+id)
		require.Equal(t, http.StatusUnprocessableEntity, a.Status)
		require.Equal(t, "IDEMPOTENCY_REUSED", a.JSON(t)["code"])

		// A rerun can be run again like any other.
		archived(second)
		a = acme.Call(t, http.MethodPost, "/executions/"+second+"/rerun", object{"from_node": "b"}, "Prefer", "respond-async")
		require.Equal(t, http.StatusAccepted, a.Status, "%.500s", a.Body)
		third := acme.AwaitEnd(t, a.JSON(t)["execution_id"].(string))
		require.Equal(t, "COMPLETED", third.Status)
		// And without from_node all of it, with no body at all.
		a = acme.Call(t, http.MethodPost, rerun, nil)
		require.Equal(t, http.StatusOK, a.Status, "%.500s", a.Body)
		want := [3]int{2, 3, 5}
		for i := range want {
			want[i] *= n + 1
		}
		require.Equal(t, fmt.Sprintf("a%d b%d c%d", want[0], want[1], want[2]), world.count())

		var x struct {
			RerunOf string   `json:"rerun_of"`
			Tags    []string `json:"tags"`
			Nodes   []struct {
				Node    string
				Attempt int
			}
		}
		archived(once)
		acme.Get(t, "/executions/"+once).Decode(t, &x)
		require.Equal(t, id, x.RerunOf)
		require.Equal(t, []string{"mine"}, x.Tags)
		require.Len(t, x.Nodes, 5)
		for _, node := range x.Nodes {
			require.Equal(t, node.Node == "c" || node.Node == "out", node.Attempt > 0, "%s", node.Node)
		}

		for _, c := range []struct {
			who    company
			path   string
			body   any
			status int
			code   string
		}{
			{globex, rerun, nil, http.StatusForbidden, "FORBIDDEN"},
			{acme, "/executions/exec_01jd2v8m6hf5qrgq2s9n0w3x4y/rerun", nil, http.StatusNotFound, "NOT_FOUND"},
			{acme, "/executions/nonsense/rerun", nil, http.StatusNotFound, "NOT_FOUND"},
			{acme, rerun, object{"from_node": "nobody"}, http.StatusUnprocessableEntity, "INVALID"},
			{acme, rerun, object{"from_node": 7}, http.StatusUnprocessableEntity, "INVALID"},
			{acme, rerun, object{"fromNode": "c"}, http.StatusUnprocessableEntity, "INVALID"}, // misspelt, it would call everything again
			{acme, rerun, object{"from_node": "out"}, http.StatusConflict, "CONFLICT"},
		} {
			a := c.who.Call(t, http.MethodPost, c.path, c.body)
			require.Equal(t, c.status, a.Status, "%s %v: %.500s", c.path, c.body, a.Body)
			require.Equal(t, c.code, a.JSON(t)["code"])
		}
	}

	// One that still runs is not run a second time.
	gate := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(slow.Close)
	id := acme.Submit(t, object{"workflow": json.RawMessage(fmt.Sprintf(threeCalls, "", slow.URL))})
	a := acme.Call(t, http.MethodPost, "/executions/"+id+"/rerun", nil)
	require.Equal(t, http.StatusConflict, a.Status, "%s", a.Body)
	close(gate)
	acme.AwaitEnd(t, id)
}
