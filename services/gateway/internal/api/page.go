package api

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// PageParams ask for one page of a list.
type PageParams struct {
	Skip   int    `query:"skip" minimum:"0" maximum:"1000000" default:"0" doc:"How many to leave out; for deep pages use cursor"`
	Limit  int    `query:"limit" minimum:"1" maximum:"100" default:"50" doc:"How many at most"`
	Cursor string `query:"cursor" maxLength:"512" doc:"next_cursor of the page before; goes without skip"`
}

func (p PageParams) page() protocol.Page {
	return protocol.Page{Skip: p.Skip, Limit: p.Limit, Cursor: p.Cursor}
}

// Page is one page of a list.
type Page[T any] struct {
	Items      []T    `json:"items" nullable:"false"`
	Total      int64  `json:"total" doc:"Of all pages; -1 on pages that a cursor asked for"`
	Skip       int    `json:"skip"`
	Limit      int    `json:"limit"`
	HasMore    bool   `json:"has_more"`
	NextCursor string `json:"next_cursor,omitempty" doc:"Asks for the page behind this one"`
}

// pageOf shows a list of one kind of things as another.
func pageOf[From, To any](l protocol.List[From], show func(From) To) *PageOutput[To] {
	page := Page[To]{
		Items: make([]To, len(l.Items)), Total: l.Total, Skip: l.Skip, Limit: l.Limit, HasMore: l.HasMore, NextCursor: l.NextCursor,
	}
	for i, item := range l.Items {
		page.Items[i] = show(item)
	}
	return &PageOutput[To]{Body: page}
}

// PageOutput is the answer of a list.
type PageOutput[T any] struct{ Body Page[T] }

// Output is an answer with a body alone.
type Output[T any] struct{ Body T }

func output[T any](v T, err error) (*Output[T], error) {
	if err != nil {
		return nil, err
	}
	return &Output[T]{Body: v}, nil
}

// Versioned is an answer whose version a later change can name.
type Versioned[T any] struct {
	ETag     string `header:"ETag" doc:"The version, for If-Match"`
	Location string `header:"Location"`
	Body     T
}

func etag(version int) string { return `"` + strconv.Itoa(version) + `"` }

// IfMatch makes a change depend on the version that the client has seen.
type IfMatch struct {
	IfMatch string `header:"If-Match" doc:"The ETag that the change is based on; another version answers 412" example:"\"3\""`

	version int
}

// Resolve reads the header: a version in quotes, or bare; * means any.
func (m *IfMatch) Resolve(huma.Context) []error {
	given := strings.TrimSpace(m.IfMatch)
	if given == "" || given == "*" {
		return nil
	}
	bare := strings.Trim(strings.TrimPrefix(given, "W/"), `"`)
	n, err := strconv.Atoi(bare)
	if err != nil || n < 1 {
		return []error{&huma.ErrorDetail{Location: "header.If-Match", Message: "must be one ETag of this resource, such as \"3\", or *", Value: given}}
	}
	m.version = n
	return nil
}

var _ huma.Resolver = (*IfMatch)(nil)

// SinceUntil bound a list in time.
type SinceUntil struct {
	Since time.Time `query:"since" doc:"At or after (RFC 3339)"`
	Until time.Time `query:"until" doc:"Before (RFC 3339)"`
}

func moment(t time.Time) protocol.Time {
	if t.IsZero() {
		return protocol.Time{}
	}
	return protocol.At(t)
}

// owned runs an ask for something of a tenant; it exists to give each look-up the same shape.
func owned[Req, Resp any](ctx context.Context, s *Server, call protocol.Call[Req, Resp], req Req) (*Output[Resp], error) {
	return output(ask(ctx, s, call, req))
}
