package process

import (
	"bytes"
	"slices"
	"strings"
	"sync"
)

// Tail keeps the last lines that were written to it.
type Tail struct {
	mu    sync.Mutex
	lines []string
	part  []byte
}

const tailLines = 300

func (t *Tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.part = append(t.part, b...)
	for {
		line, rest, ok := bytes.Cut(t.part, []byte("\n"))
		if !ok {
			return len(b), nil
		}
		t.lines = append(t.lines, string(line))
		if extra := len(t.lines) - tailLines; extra > 0 {
			t.lines = slices.Delete(t.lines, 0, extra)
		}
		t.part = rest
	}
}

func (t *Tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.Join(append(slices.Clone(t.lines), string(t.part)), "\n")
}
