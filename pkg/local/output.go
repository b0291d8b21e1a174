package local

import (
	"bytes"
	"strings"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

const (
	tailLines = 20
	lineLimit = 16 << 10
)

// output takes what a child prints, line by line, to the log, and keeps the last lines for a start error.
type output struct {
	log   *zap.Logger
	level func(line string) zapcore.Level
	// loud lets warnings through. It is off while the server starts and stops: what it says then is either routine
	// or ends up in an error.
	loud atomic.Bool

	mu      sync.Mutex
	partial []byte
	tail    []string
}

func newOutput(log *zap.Logger, level func(line string) zapcore.Level) *output {
	return &output{log: log, level: level}
}

// Write never fails: a child must not die of our logging.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.partial = append(o.partial, p...)
	for {
		line, rest, found := bytes.Cut(o.partial, []byte("\n"))
		if !found {
			break
		}
		o.emit(string(line))
		o.partial = rest
	}
	if len(o.partial) > lineLimit {
		o.emit(string(o.partial))
		o.partial = nil
	}
	return len(p), nil
}

func (o *output) flush() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.partial) > 0 {
		o.emit(string(o.partial))
		o.partial = nil
	}
}

func (o *output) emit(line string) {
	line = strings.TrimRight(line, " \r\t")
	if line == "" {
		return
	}
	if o.tail = append(o.tail, line); len(o.tail) > tailLines {
		o.tail = o.tail[1:]
	}
	level := zapcore.DebugLevel
	if o.loud.Load() {
		level = o.level(line)
	}
	o.log.Log(level, line)
}

func (o *output) contains(text string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, line := range o.tail {
		if strings.Contains(line, text) {
			return true
		}
	}
	return false
}

// quote is the tail as the end of an error's text.
func (o *output) quote() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.tail) == 0 {
		return ""
	}
	return "; its last words:\n  " + strings.Join(o.tail, "\n  ")
}
