package execution

import (
	"testing"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// FuzzApply feeds whatever decodes as a commit to states in all kinds of places: the fold never
// falls over what stands in the log, and never gets stuck by it.
func FuzzApply(f *testing.F) {
	plan := parseGraph(f, "a: router {\"strategy\":\"default\"}\na -> b c\nb -> a\nb -> d\nc -> c\nc -> d\nd -> end")
	for _, body := range []string{
		`{"events":[{"type":"node_completed.v1","at":"2026-01-02T03:04:05.000Z","data":{"node":"a","delta":{"value":{"k":1}},"edges":[0,1]}}]}`,
		`{"events":[{"type":"node_failed.v1","at":null,"data":{"node":"a","attempt":1,"error":{"code":"X"},"handled":true,"edges":[0]}}]}`,
		`{"events":[{"type":"node_completed.v1","at":null,"data":{"node":"a","edges":[0,-1,99]}},{"type":"node_completed.v1","at":null,"data":{"node":"b","edges":[2,3]}},{"type":"node_completed.v1","at":null,"data":{"node":"c","edges":[4]}}]}`,
		`{"events":[{"type":"node_rate_limited.v1","at":null,"data":{"node":"a","retry_at":"2026-01-02T03:04:05.000Z"}},{"type":"cancel_requested.v1","at":null,"data":{}}]}`,
		`{"events":[{"type":"failed.v1","at":null,"data":{"error":{"code":"X"},"state":{"ref":"gone"}}}]}`,
		`{"events":[{"type":"carried.v1","at":null,"data":{"requested":{"input":{}},"snapshot":{"nodes":[{},{},{},{"status":1}],"edges":[0,0,0,0,0,0,0],"loops":[{},{}],"values":{"value":{"execution_path":3}}}}}]}`,
		`{"events":[{"type":"requested.v1","at":null,"data":{"input":{"value":{"execution_path":"x"}}}}]}`,
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := protocol.DecodeCommit("c", body)
		if err != nil {
			return
		}
		record := []protocol.Record{{Commit: c}}
		s := newState(t, plan, "")
		s.Follow(record)
		s.Follow(record)
		if steps := s.Next(epoch); len(steps) == 0 && !s.Done() {
			t.Fatal("stuck")
		}
		// Restore trusts a snapshot of its own log to be sound, and reads any without a panic.
		if s, err := Fold(testKey, record, func(protocol.Requested) (*workflow.Plan, error) { return plan, nil }); err == nil {
			s.Follow(record)
			s.Next(epoch)
			_ = s.RateLimited()
			_ = s.CurrentNodes()
		}
	})
}
