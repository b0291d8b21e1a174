package postgres

import (
	"encoding/json"
	"time"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// storedRun is a protocol.NodeRun as the column runs holds it: there are many of them, and most ran once and well. What is
// left out is what is usual; times are milliseconds, the first behind the creation of the execution. Rows from
// before there was this column have them whole, in the column nodes.
type storedRun struct {
	Node      string            `json:"n"`
	Iteration int               `json:"i,omitempty"`
	Status    string            `json:"s,omitempty"` // "" is COMPLETED
	Retries   int               `json:"a,omitempty"` // attempts but one; -1 for a result that was taken over
	Begun     *int64            `json:"b,omitempty"` // nil: not begun
	Took      *int64            `json:"e,omitempty"` // from begun, or else from the creation, to completed; nil: not completed
	Duration  *int64            `json:"d,omitempty"` // as the executor measured it; nil: as took says
	Tokens    int64             `json:"t,omitempty"`
	Cost      string            `json:"c,omitempty"` // "" is 0
	Intent    string            `json:"in,omitempty"`
	Error     *protocol.Failure `json:"err,omitempty"`
	Handled   bool              `json:"h,omitempty"`
	Retry     *int64            `json:"r,omitempty"` // behind the creation; nil: none is planned
	Queue     string            `json:"q,omitempty"`
	Metric    protocol.Metric   `json:"m,omitempty"`
}

// encodeRuns is what the column runs holds of an execution that was created at a time.
func encodeRuns(created protocol.Time, runs []protocol.NodeRun) *string {
	if len(runs) == 0 {
		return nil
	}
	stored := make([]storedRun, len(runs))
	for i, r := range runs {
		s := storedRun{
			Node: r.Node, Iteration: r.Iteration, Status: r.Status, Retries: r.Attempt - 1, Begun: behind(created, r.StartedAt),
			Took: behind(r.StartedAt, r.CompletedAt), Tokens: r.TokensUsed, Cost: string(r.Cost), Intent: r.Intent, Error: r.Error,
			Handled: r.Handled, Retry: behind(created, r.RetryAt), Queue: r.Queue, Metric: r.Metric,
		}
		if r.StartedAt.IsZero() {
			s.Took = behind(created, r.CompletedAt)
		}
		if s.Status == protocol.NodeCompletedStatus {
			s.Status = ""
		}
		if s.Cost == "0" {
			s.Cost = ""
		}
		if s.Took == nil && r.DurationMS != 0 || s.Took != nil && *s.Took != r.DurationMS {
			s.Duration = &r.DurationMS
		}
		stored[i] = s
	}
	return encoded(stored)
}

// readRuns reads the column runs or, of rows from before it, nodes.
func readRuns(created protocol.Time, runs, nodes []byte) ([]protocol.NodeRun, error) {
	list := []protocol.NodeRun{}
	var err error
	switch {
	case runs != nil:
		return decodeRuns(created, runs)
	case nodes != nil:
		err = json.Unmarshal(nodes, &list)
	}
	return list, err
}

func decodeRuns(created protocol.Time, raw []byte) ([]protocol.NodeRun, error) {
	var stored []storedRun
	if err := json.Unmarshal(raw, &stored); err != nil {
		return nil, err
	}
	runs := make([]protocol.NodeRun, len(stored))
	for i, s := range stored {
		r := protocol.NodeRun{
			Node: s.Node, Iteration: s.Iteration, Status: s.Status, Attempt: s.Retries + 1, StartedAt: after(created, s.Begun),
			TokensUsed: s.Tokens, Cost: json.Number(s.Cost), Intent: s.Intent, Error: s.Error,
			Handled: s.Handled, RetryAt: after(created, s.Retry), Queue: s.Queue, Metric: s.Metric,
		}
		r.CompletedAt = after(r.StartedAt, s.Took)
		if r.StartedAt.IsZero() {
			r.CompletedAt = after(created, s.Took)
		}
		if r.Status == "" {
			r.Status = protocol.NodeCompletedStatus
		}
		if r.Cost == "" {
			r.Cost = "0"
		}
		switch {
		case s.Duration != nil:
			r.DurationMS = *s.Duration
		case s.Took != nil:
			r.DurationMS = *s.Took
		}
		runs[i] = r
	}
	return runs, nil
}

// behind is how many milliseconds a moment lies behind another; nil for no moment.
func behind(from, at protocol.Time) *int64 {
	if at.IsZero() {
		return nil
	}
	ms := at.UnixMilli() - from.UnixMilli()
	return &ms
}

// after is the moment so many milliseconds behind another.
func after(from protocol.Time, ms *int64) protocol.Time {
	if ms == nil {
		return protocol.Time{}
	}
	return protocol.At(time.UnixMilli(from.UnixMilli() + *ms))
}
