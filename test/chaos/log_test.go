package chaos

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/test/platform"
)

// TestTheHotLogStaysSmall: behind a burst the execution log is emptied, and while Postgres is away a small one becomes
// full. Then new executions are refused, those that were accepted go on, and all of it passes when Postgres comes back.
func TestTheHotLogStaysSmall(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "HOT_LOG_GRACE_SECONDS=0", "HOT_LOG_TRIM_SECONDS=100ms", fmt.Sprintf("EXECUTION_LOG_MAX_BYTES=%d", partitions*(256<<10)))
	b := connect(t, f.nurl)
	stored := func() (messages, bytes uint64) {
		t.Helper()
		for p := range partitions {
			state, err := b.State(t.Context(), protocol.PartitionStream(p))
			require.NoError(t, err)
			messages += state.Messages
			bytes += state.Bytes
		}
		return messages, bytes
	}
	body := fmt.Appendf(nil, `{"workflow":{"start_node":"a","nodes":[{"id":"a","type":"input"},{"id":"b","type":"aggregator"}],"edges":[{"from":"a","to":"b"}]},`+
		`"initial_state":{"user_input":%q}}`, strings.Repeat("x", 1000))
	begin := func() (id string, status int, header http.Header) {
		t.Helper()
		status, header, answer, err := f.exchange(http.MethodPost, "/workflows/execute", body, "Prefer", "respond-async")
		require.NoError(t, err)
		var accepted struct {
			ID   string `json:"execution_id"`
			Code string `json:"code"`
		}
		require.NoError(t, json.Unmarshal(answer, &accepted), "%s", answer)
		if status != http.StatusAccepted {
			require.Equal(t, http.StatusServiceUnavailable, status, "%s", answer)
			require.Equal(t, "LOG_FULL", accepted.Code)
			return "", status, header
		}
		return accepted.ID, status, header
	}

	var ids []string
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 50 {
				id, _, _ := begin()
				mu.Lock()
				if id != "" { // the log is small, and the burst may fill it
					ids = append(ids, id)
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	most, _ := stored()
	burst := len(ids)
	ended(t, f, ids)
	platform.Await(t, "the log to be emptied", func() bool { n, _ := stored(); return n == 0 })
	t.Logf("a burst of %d executions left %d messages, and none in the end", burst, most)

	require.NoError(t, f.postgres.Kill())
	var refused http.Header
	ids = nil
	for refused == nil {
		id, status, header := begin()
		if status == http.StatusAccepted {
			ids = append(ids, id)
			continue
		}
		// Of an emptier log the gateway still believes what it saw of the burst.
		if _, bytes := stored(); bytes > partitions*(256<<10)/3 {
			refused = header
		}
	}
	require.NotEmpty(t, refused.Get("Retry-After"))
	_, bytes := stored()
	t.Logf("without Postgres %d executions were accepted, until their log had %d KiB of %d", len(ids), bytes>>10, partitions*256)
	for _, id := range []string{ids[0], ids[len(ids)-1]} {
		platform.Await(t, id+" to end without Postgres", func() bool {
			_, answer, err := f.call(http.MethodGet, "/executions/"+id, nil)
			return err == nil && strings.Contains(string(answer), `"status":"COMPLETED"`)
		})
	}
	require.NoError(t, f.postgres.Start(t.Context()))
	ended(t, f, ids)
	platform.Await(t, "the log to be emptied", func() bool { n, _ := stored(); return n == 0 })
	platform.Await(t, "new executions to be accepted", func() bool { _, status, _ := begin(); return status == http.StatusAccepted })
	f.verify()
}

// ended waits until executions have completed, as the archive tells.
func ended(t *testing.T, f *fleet, ids []string) {
	t.Helper()
	platform.Await(t, "every execution to be archived", func() bool {
		all := f.histories()
		for _, id := range ids {
			h := all[id]
			if h == nil || len(h.ends) == 0 {
				return false
			}
			require.IsType(t, protocol.Completed{}, h.ends[0])
		}
		return true
	})
}
