package watch

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
)

// Screen shows an execution at work.
type Screen interface {
	// Event is called when the tree has taken in e; raw is the event as it came.
	Event(e Event, raw json.RawMessage) error
	// Tick is called now and then, for times that count up.
	Tick(now time.Time) error
	// End is called once, after the last event.
	End(now time.Time) error
}

// JSON writes each event as a line.
func JSON(w io.Writer) Screen { return jsonLines{w} }

type jsonLines struct{ w io.Writer }

func (s jsonLines) Event(_ Event, raw json.RawMessage) error {
	var b bytes.Buffer
	if err := json.Compact(&b, raw); err != nil {
		return fmt.Errorf("write event: %w", err)
	}
	b.WriteByte('\n')
	_, err := s.w.Write(b.Bytes())
	return err
}
func (jsonLines) Tick(time.Time) error { return nil }
func (jsonLines) End(time.Time) error  { return nil }

// Lines writes a line for each event, and the tree at the end.
func Lines(w io.Writer, t *Tree, p Palette) Screen { return lines{w, t, p} }

type lines struct {
	w    io.Writer
	tree *Tree
	p    Palette
}

func (s lines) Event(e Event, _ json.RawMessage) error {
	parts := []string{e.At.UTC().Format("15:04:05.000"), e.Name()}
	for _, part := range []string{Harmless(e.Node()), e.About()} {
		if part != "" {
			parts = append(parts, part)
		}
	}
	_, err := fmt.Fprintln(s.w, strings.Join(parts, "  "))
	return err
}

func (lines) Tick(time.Time) error { return nil }

func (s lines) End(now time.Time) error {
	_, err := fmt.Fprintln(s.w, strings.Join(s.tree.Draw(now, s.p, 0), "\n"))
	return err
}

// Live draws the tree in place on a terminal, whose size it asks for each time.
func Live(w io.Writer, t *Tree, p Palette, size func() (width, height int)) Screen {
	return &live{w: w, tree: t, p: p, size: size}
}

type live struct {
	w     io.Writer
	tree  *Tree
	p     Palette
	size  func() (width, height int)
	drawn int // lines that stand on the terminal
}

func (s *live) Event(e Event, _ json.RawMessage) error { return s.Tick(e.At) }

// Tick draws as many of the last lines as fit: what has scrolled away cannot be drawn again.
func (s *live) Tick(now time.Time) error {
	width, height := s.size()
	all := s.tree.Draw(now, s.p, width)
	if most := max(1, height-1); len(all) > most {
		all = append(all[:1:1], all[len(all)-most+1:]...)
	}
	return s.put(all)
}

// End draws the whole tree, however long it is: from now on it may scroll.
func (s *live) End(now time.Time) error {
	width, _ := s.size()
	return s.put(s.tree.Draw(now, s.p, width))
}

func (s *live) put(all []string) error {
	var b strings.Builder
	if s.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", s.drawn)
	}
	b.WriteString("\r\x1b[J") // clears from here to the end of the screen
	for _, line := range all {
		b.WriteString(line + "\n")
	}
	s.drawn = len(all)
	_, err := io.WriteString(s.w, b.String())
	return err
}
