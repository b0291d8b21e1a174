package start

import (
	"context"
	"sync"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/protocol"
)

const (
	// lookEvery is how long what is known of a partition's room is believed.
	lookEvery = 250 * time.Millisecond
	// lookWait bounds one look. Without an answer the append itself finds out.
	lookWait = time.Second
)

// room keeps a part of the execution log for the commits of what has been accepted. Were new
// requests to fill a log to its last byte, no execution in it could end, and it would stay full.
type room struct {
	mu    sync.Mutex
	parts map[int]*part
}

type part struct {
	looked time.Time
	full   bool
}

// left tells whether a partition takes new executions: while three quarters of it are not used. One
// request in a while asks the server; the others believe what it found.
func (s *Service) left(ctx context.Context, key protocol.ExecutionKey) bool {
	now := s.now()
	s.room.mu.Lock()
	p := s.room.parts[key.Partition]
	if p == nil {
		p = &part{}
		s.room.parts[key.Partition] = p
	}
	fresh, full := now.Sub(p.looked) < lookEvery, p.full
	if !fresh {
		p.looked = now // this one looks, nobody else
	}
	s.room.mu.Unlock()
	if fresh {
		return !full
	}
	ctx, cancel := context.WithTimeout(ctx, lookWait)
	defer cancel()
	state, err := s.log.State(ctx, key.Stream())
	if err != nil {
		return true
	}
	full = used(state)
	s.room.mu.Lock()
	p.full = full
	s.room.mu.Unlock()
	return !full
}

func used(s bus.StreamState) bool { return s.MaxBytes > 0 && s.Bytes >= s.MaxBytes/4*3 }
