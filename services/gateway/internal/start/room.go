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
	used   uint64 // when it was looked at, and what was accepted here since
	most   uint64 // 0: no limit
}

// left tells whether a partition takes a new execution that needs so many bytes: while three quarters of it
// are not used. One request in a while asks the server; the others believe what it found.
func (s *Service) left(ctx context.Context, key protocol.ExecutionKey, size uint64) bool {
	now := s.now()
	s.room.mu.Lock()
	p := s.room.parts[key.Partition]
	if p == nil {
		p = &part{}
		s.room.parts[key.Partition] = p
	}
	fresh := now.Sub(p.looked) < lookEvery
	if !fresh {
		p.looked = now // this one looks, nobody else
	}
	s.room.mu.Unlock()
	var state bus.StreamState
	var err error
	if !fresh {
		ctx, cancel := context.WithTimeout(ctx, lookWait)
		defer cancel()
		state, err = s.log.State(ctx, key.Stream())
	}
	s.room.mu.Lock()
	defer s.room.mu.Unlock()
	if !fresh { // without an answer there is no limit: the append finds out
		p.used, p.most = state.Bytes, state.MaxBytes
	}
	if err != nil || p.most == 0 {
		return true
	}
	if p.used >= p.most/4*3 {
		return false
	}
	p.used += size
	return true
}

// sizeOf is about what an execution will need until it has ended: its request, its results, and its end.
func sizeOf(req protocol.Requested) uint64 {
	input, _ := req.Input.Raw() // a reference is small
	return uint64(len(req.Spec) + 3*len(input) + 3<<10)
}
