package engine

import (
	"sync"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// shares keeps one tenant from taking a whole executor. Jobs come in the order of the stream, so
// a tenant with a long backlog would stand in front of everyone. A tenant that has its share of
// the slots has its further jobs handed back until about when their turn comes, and the jobs of
// others behind them surface at once.
type shares struct {
	most int // slots one tenant may hold

	mu      sync.Mutex
	tenants map[protocol.TenantID]*share
}

type share struct {
	running  int
	deferred int           // jobs handed back and not seen again
	usual    time.Duration // how long an execution usually holds its slot
}

// How long jobs are handed back for, at the least and at the most.
const (
	shortestDefer = 25 * time.Millisecond // shorter, and the same jobs come back before new ones
	longestDefer  = 10 * time.Second
	firstGuess    = 100 * time.Millisecond // of how long an execution takes, before one has ended
)

func newShares(slots int) *shares {
	return &shares{most: max(1, slots*3/4), tenants: map[protocol.TenantID]*share{}}
}

// wait says for how long to hand a job back, 0 when it may run now. again tells that the job was
// delivered before.
func (s *shares) wait(t protocol.TenantID, again bool) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.tenants[t]
	if sh == nil {
		return 0
	}
	if again && sh.deferred > 0 {
		sh.deferred--
	}
	if sh.running < s.most {
		return 0
	}
	sh.deferred++
	usual := sh.usual
	if usual == 0 {
		usual = firstGuess
	}
	// Half of the estimate: a job that comes too early costs a message, one that comes late an idle slot. That holds each time
	// it comes: what comes again in all is twice what can run, however long the backlog.
	turn := usual * time.Duration(sh.deferred) / time.Duration(2*s.most)
	return min(max(turn, shortestDefer), longestDefer)
}

func (s *shares) begin(t protocol.TenantID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.tenants[t]
	if sh == nil {
		sh = &share{}
		s.tenants[t] = sh
	}
	sh.running++
}

func (s *shares) end(t protocol.TenantID, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sh := s.tenants[t]
	if sh.usual == 0 {
		sh.usual = took
	}
	sh.usual += (took - sh.usual) / 16
	if sh.running--; sh.running == 0 && sh.deferred == 0 {
		delete(s.tenants, t)
	}
}
