package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/watch"
)

// table is a list for people: a line of headings, and one for each item.
type table struct {
	paint  paint
	fields []string
	rows   [][]string
}

func newTable(p paint, fields ...string) *table {
	return &table{paint: p, fields: fields, rows: [][]string{fields}}
}

func (t *table) add(item map[string]any) {
	row := make([]string, len(t.fields))
	for i, field := range t.fields {
		row[i] = cell(item[field])
	}
	t.rows = append(t.rows, row)
}

func (t *table) write(w io.Writer) error {
	widths := make([]int, len(t.fields))
	for _, row := range t.rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	var b strings.Builder
	for n, row := range t.rows {
		for i, text := range row {
			shown := text
			switch {
			case n == 0:
				shown = t.paint.dim(text)
			case t.fields[i] == "status":
				shown = t.paint.status(text)
			}
			b.WriteString(shown)
			if i < len(row)-1 { // nothing trails
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text)+2))
			}
		}
		b.WriteByte('\n')
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func cell(v any) string {
	text := ""
	switch v := v.(type) {
	case nil:
	case string:
		text = v
	case map[string]any, []any:
		if raw, err := json.Marshal(v); err == nil { // it was JSON a moment ago
			text = string(raw)
		}
	default:
		text = fmt.Sprint(v)
	}
	if text == "" {
		return "-"
	}
	return watch.Harmless(text)
}

// decode reads JSON with its numbers as they are written.
func decode(raw json.RawMessage, into any) error {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return fmt.Errorf("the answer is not one of AgentFlow: %w", err)
	}
	return nil
}
