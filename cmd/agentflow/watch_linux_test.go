package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// terminal is one that a program runs on: what it wrote, as somebody in front of it sees it.
type terminal struct {
	keyboard *os.File
	written  *output
	cmd      *exec.Cmd
	stderr   *output
}

// onTerminal starts a command on a terminal of 60 by 10 that is its own.
func onTerminal(t *testing.T, cmd *exec.Cmd) *terminal {
	t.Helper()
	near := openTerminal(t)
	fd := int(near.Fd())
	require.NoError(t, unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0))
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	require.NoError(t, err)
	far, err := os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|syscall.O_NOCTTY, 0)
	require.NoError(t, err)
	defer func() { require.NoError(t, far.Close()) }()
	require.NoError(t, unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 10, Col: 60}))
	term := &terminal{keyboard: near, written: &output{}, cmd: cmd, stderr: &output{}}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = far, far, term.stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	require.NoError(t, cmd.Start())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(term.written, near) // until nobody has the other end
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // in case that the test has failed
		<-done
	})
	return term
}

// lines are what stands on the terminal: text, colours, and the cursor as a tree that is drawn over itself moves it.
func (term *terminal) lines() []string {
	lines, row := []string{""}, 0
	for text := term.written.String(); text != ""; {
		if rest, ok := strings.CutPrefix(text, "\x1b["); ok {
			end := strings.IndexFunc(rest, func(r rune) bool { return r >= '@' })
			if end < 0 {
				break // the rest is still to come
			}
			n, _ := strconv.Atoi(rest[:end])
			switch rest[end] {
			case 'A':
				row -= n
			case 'J':
				lines = append(lines[:row], "")
			}
			text = rest[end+1:]
			continue
		}
		switch text[0] {
		case '\r':
		case '\n':
			if row++; row == len(lines) {
				lines = append(lines, "")
			}
		default:
			lines[row] += text[:1]
		}
		text = text[1:]
	}
	return lines
}

// scripted is a gateway with one execution, whose events come when the test says so.
func scripted(t *testing.T) (url string, events chan string) {
	t.Helper()
	events = make(chan string)
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || !strings.HasSuffix(r.URL.Path, "/events") {
			t.Errorf("asked for %s %s", r.Method, r.URL)
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for n := 1; ; n++ {
			if http.NewResponseController(w).Flush() != nil {
				return
			}
			select {
			case e := <-events:
				kind, data, _ := strings.Cut(e, " ")
				_, _ = fmt.Fprintf(w, "id: %d.0\nevent: %s.v1\ndata: {\"sequence\":%d,\"type\":\"%s.v1\",\"at\":\"2026-01-02T03:04:05Z\",\"data\":%s}\n\n", n, kind, n, kind, data)
			case <-r.Context().Done():
				return
			}
		}
	}))
	t.Cleanup(gateway.Close)
	return gateway.URL, events
}

// On a terminal the tree changes in place, and each line stands there once.
func TestWatchOnATerminal(t *testing.T) {
	t.Parallel()
	url, events := scripted(t)
	term := onTerminal(t, agentflow(t, nil, "execution", "watch", "exec_1", "--url", url, "--key", "af_x"))
	shows := func(want ...string) {
		t.Helper()
		require.Eventually(t, func() bool {
			lines := term.lines()
			if len(lines) != len(want)+1 { // the cursor waits below
				return false
			}
			for i, w := range want {
				if !strings.HasPrefix(lines[i], w) {
					return false
				}
			}
			return true
		}, patience, pause, "%q", term.written)
	}
	events <- `requested {"workflow_name":"demo"}`
	shows("exec_1  PENDING")
	events <- `started {"delivery":1}`
	events <- `node_completed {"node":"ask","duration_ms":7}`
	shows("exec_1  RUNNING", "└─ ✓ ask  7ms")
	events <- `node_completed {"node":"answer","duration_ms":9,"tokens":40}`
	shows("exec_1  RUNNING", "├─ ✓ ask  7ms", "└─ ✓ answer  9ms  40 tokens")
	events <- `completed {"totals":{"tokens_used":40,"duration_ms":16}}`
	require.Equal(t, exitOK, wait(t, term.cmd), term.stderr)
	shows("exec_1  COMPLETED", "├─ ✓ ask  7ms", "└─ ✓ answer  9ms  40 tokens")
	require.Contains(t, term.written.String(), "\x1b[32m", "colours")
	require.Empty(t, term.stderr.String())
}

// Ctrl-C ends the watching and nothing else.
func TestInterruptOnATerminal(t *testing.T) {
	t.Parallel()
	url, events := scripted(t)
	term := onTerminal(t, agentflow(t, []string{"NO_COLOR=1"}, "execution", "watch", "exec_1", "--url", url, "--key", "af_x"))
	events <- `requested {}`
	events <- `node_completed {"node":"ask","duration_ms":7}`
	require.Eventually(t, func() bool { return len(term.lines()) > 2 }, patience, pause)
	_, err := term.keyboard.WriteString("\x03")
	require.NoError(t, err)
	require.Equal(t, exitFailed, wait(t, term.cmd))
	require.Contains(t, term.stderr.String(), "not cancelled: exec_1")
	require.NotContains(t, term.written.String(), "\x1b[3", "no colours")
}
