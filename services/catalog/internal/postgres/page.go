package postgres

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// page is a checked protocol.Page.
type page struct {
	skip, limit int
	after       *position // of the row before the page
}

// position is where a row stands in a list: the newest first, and among equals the greatest id.
type position struct {
	at time.Time
	id string
}

func pageOf(p protocol.Page) (page, error) {
	refuse := func(field, format string, args ...any) (page, error) {
		return page{}, &protocol.Error{Code: protocol.CodeInvalid, Field: field, Message: fmt.Sprintf(format, args...)}
	}
	if p.Skip < 0 {
		return refuse("skip", "skip must not be negative")
	}
	if p.Limit < 0 || p.Limit > protocol.MaxLimit {
		return refuse("limit", "limit must be between 1 and %d", protocol.MaxLimit)
	}
	out := page{skip: p.Skip, limit: p.Limit}
	if out.limit == 0 {
		out.limit = protocol.DefaultLimit
	}
	if p.Cursor == "" {
		return out, nil
	}
	if p.Skip != 0 {
		return refuse("skip", "skip and cursor exclude each other")
	}
	at, ok := decodeCursor(p.Cursor)
	if !ok {
		return refuse("cursor", "cursor must be a next_cursor of the same list")
	}
	out.after = &at
	return out, nil
}

func encodeCursor(p position) string {
	return base64.RawURLEncoding.EncodeToString([]byte(strconv.FormatInt(p.at.UnixMicro(), 36) + "." + p.id))
}

func decodeCursor(s string) (position, bool) {
	raw, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil || len(raw) > 512 {
		return position{}, false
	}
	micros, id, ok := strings.Cut(string(raw), ".")
	n, err := strconv.ParseInt(micros, 36, 64)
	// Years that Postgres knows: a forged cursor must be refused, not break the query.
	if !ok || err != nil || n < 0 || n > 32503680000000000 || !clean(id) {
		return position{}, false
	}
	return position{at: time.UnixMicro(n).UTC(), id: id}, true
}

// clean tells whether Postgres can take a text at all.
func clean(s string) bool { return !strings.ContainsRune(s, 0) && strings.ToValidUTF8(s, "") == s }

// query puts a list together: conditions with their arguments.
type query struct {
	where []string
	args  []any
}

// arg adds an argument and returns its place.
func (q *query) arg(v any) string {
	q.args = append(q.args, v)
	return "$" + strconv.Itoa(len(q.args))
}

// and adds a condition; each ? in it stands for the next of args.
func (q *query) and(condition string, args ...any) {
	for _, a := range args {
		condition = strings.Replace(condition, "?", q.arg(a), 1)
	}
	q.where = append(q.where, condition)
}

func (q *query) conditions() string {
	if len(q.where) == 0 {
		return "true"
	}
	return strings.Join(q.where, " and ")
}

// list is the statement for one page, and one row more to see whether there is another page.
func (q *query) list(columns, from, at, id string, p page) string {
	paged := *q
	paged.where = append([]string(nil), q.where...)
	if p.after != nil {
		paged.and("("+at+", "+id+") < (?, ?)", p.after.at, p.after.id)
	}
	sql := "select " + columns + " from " + from + " where " + paged.conditions() +
		" order by " + at + " desc, " + id + " desc offset " + paged.arg(p.skip) + " limit " + paged.arg(p.limit+1)
	q.args = paged.args
	return sql
}

// collect reads the rows of a page.
func collect[T any](l *protocol.List[T], p page, scan func(pgx.Rows) (T, position, error)) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		l.Items, l.Skip, l.Limit = make([]T, 0, p.limit), p.skip, p.limit
		if p.after != nil {
			l.Total = -1
		}
		var last position
		for rows.Next() {
			if len(l.Items) == p.limit {
				l.HasMore = true
				l.NextCursor = encodeCursor(last)
				continue
			}
			item, at, err := scan(rows)
			if err != nil {
				return err
			}
			l.Items, last = append(l.Items, item), at
		}
		return rows.Err()
	}
}

// timeOrNull is a time for a column that may be null.
func timeOrNull(t protocol.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t.Time
}

func orZero(t *time.Time) protocol.Time {
	if t == nil {
		return protocol.Time{}
	}
	return protocol.At(*t)
}

// textOrNull is a text for a column that may be null.
func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
