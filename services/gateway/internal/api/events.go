package api

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/gofiber/fiber/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Event is one fact of an execution, as clients see it.
type Event struct {
	Sequence uint64          `json:"sequence" doc:"Of the commit; several events of one commit share it"`
	Index    int             `json:"index" doc:"Within the commit"`
	Type     string          `json:"type" example:"node_completed.v1"`
	At       protocol.Time   `json:"at"`
	Data     json.RawMessage `json:"data"`
}

// Events is the answer of GET /executions/{id}/events as JSON.
type Events struct {
	ExecutionID string  `json:"execution_id"`
	Events      []Event `json:"events" nullable:"false"`
}

// eventsOf lists the events of a commit. What only the platform needs is left out.
func eventsOf(rec protocol.Record) ([]Event, error) {
	out := make([]Event, 0, len(rec.Events))
	for i, st := range rec.Events {
		e := st.Event
		if _, carried := e.(protocol.Carried); carried {
			continue // housekeeping of the log: it says nothing new
		}
		if r, ok := e.(protocol.Requested); ok {
			r.Reply, r.Spec = "", nil
			e = r
		}
		data, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		out = append(out, Event{Sequence: rec.Sequence, Index: i, Type: e.EventType(), At: st.At, Data: data})
	}
	return out, nil
}

// events is GET /executions/{id}/events: a list, or for those who accept it a stream.
func (s *Server) events(c *fiber.Ctx) error {
	r := of(c)
	id, err := executionID(c.Params("id"))
	if err != nil {
		return err
	}
	r.execution = id
	after, err := lastEventID(c)
	if err != nil {
		return err
	}
	// Read before the stream begins, so that an execution that is not there is a plain 404.
	records, err := s.history.Commits(c.UserContext(), r.tenant, id, after.commitBefore())
	if err != nil {
		return err
	}
	if strings.Contains(c.Get(fiber.HeaderAccept), "text/event-stream") {
		return s.stream(c, r, id, after, records)
	}
	answer := Events{ExecutionID: string(id), Events: []Event{}}
	for _, rec := range records {
		list, err := eventsOf(rec)
		if err != nil {
			return err
		}
		for _, e := range list {
			if after.before(e) {
				answer.Events = append(answer.Events, e)
			}
		}
	}
	return c.JSON(answer)
}

// position is a place in the events of an execution: behind an event of a commit.
type position struct {
	sequence uint64
	index    int
}

func (p position) String() string {
	return strconv.FormatUint(p.sequence, 10) + "." + strconv.Itoa(p.index)
}

// before tells whether an event comes behind the position.
func (p position) before(e Event) bool {
	return e.Sequence > p.sequence || e.Sequence == p.sequence && e.Index > p.index
}

// commitBefore is the sequence behind which reading must begin: the commit of the position itself
// may have more events.
func (p position) commitBefore() uint64 {
	if p.sequence == 0 {
		return 0
	}
	return p.sequence - 1
}

// lastEventID is where a client left off: the header of that name, or the query's after.
func lastEventID(c *fiber.Ctx) (position, error) {
	where, given := "header.Last-Event-ID", c.Get("Last-Event-ID")
	if q := c.Query("after"); given == "" && q != "" {
		where, given = "query.after", q
	}
	if given == "" {
		return position{}, nil
	}
	sequence, index, _ := strings.Cut(given, ".")
	n, err := strconv.ParseUint(sequence, 10, 64)
	p := position{sequence: n, index: maxIndex}
	if err == nil && index != "" {
		p.index, err = strconv.Atoi(index)
	}
	if err != nil || p.index < 0 {
		return position{}, &protocol.Error{Code: protocol.CodeInvalid, Field: where, Message: "must be the id of an event, such as 42.0"}
	}
	return p, nil
}

// maxIndex stands behind every event of a commit.
const maxIndex = 1 << 30
