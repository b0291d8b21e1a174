package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/watch"
)

func newExecutionWatch(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "watch EXECUTION_ID", Short: "Watch an execution until it ends: its nodes with their times and tokens", Args: exactly("EXECUTION_ID"),
		Long: `Shows the nodes of an execution as they run, with their times and tokens, until it ends. On a terminal that is a tree that
changes in place; elsewhere a line for each event, and the tree at the end. With -o json it is the events, one a line.

When the connection is lost it comes back and goes on where it was. The exit code is 0 when the execution completes, and
1 when it ends otherwise. Ctrl-C ends the watching, not the execution.`,
		RunE: func(c *cobra.Command, args []string) error {
			if err := r.find(); err != nil {
				return err
			}
			return newWatch(&r, args[0]).run(c.Context())
		},
	}
	r.flags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/executions"))
	return c
}

func newExecutionEvents(p *process) *cobra.Command {
	var r remote
	c := &cobra.Command{
		Use: "events EXECUTION_ID", Short: "List the events of an execution", Args: exactly("EXECUTION_ID"),
		RunE: func(c *cobra.Command, args []string) error {
			answer, err := r.ask(c.Context(), http.MethodGet, executionPath(args[0], "/events"), nil)
			if err != nil {
				return err
			}
			var list struct {
				Events []json.RawMessage `json:"events"`
			}
			if err := decode(answer, &list); err != nil {
				return err
			}
			if r.output == "json" {
				return r.printList(list.Events, "sequence")
			}
			t := newTable(p.paint(), "sequence", "at", "event", "node", "about")
			for _, raw := range list.Events {
				e, err := watch.Read(raw)
				if err != nil {
					return err
				}
				t.add(map[string]any{
					"sequence": strconv.FormatUint(e.Sequence, 10) + "." + strconv.Itoa(e.Index), "at": e.At.Format(time.RFC3339Nano),
					"event": e.Name(), "node": e.Node(), "about": e.About(),
				})
			}
			return t.write(p.stdout)
		},
	}
	r.flags(c, p)
	c.ValidArgsFunction = suggestions(r.ids("/executions"))
	return c
}

// watching is one execution that is followed to its end.
type watching struct {
	r    *remote
	id   string
	tree *watch.Tree
	last string // id of the last event that was seen
}

func newWatch(r *remote, id string) *watching {
	return &watching{r: r, id: id, tree: watch.NewTree(id)}
}

// Between two attempts to connect, and how many may fail in a row.
const (
	watchPause    = time.Second
	watchAttempts = 30
)

// redraw is how often times count up on a terminal.
const redraw = 200 * time.Millisecond

func (w *watching) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	messages := make(chan watch.Message)
	failed := make(chan error, 1)
	go func() {
		failed <- w.follow(ctx, messages)
		close(messages)
	}()
	err := w.draw(ctx, messages)
	cancel()
	for range messages { // lets the follower see that nobody reads any more
	}
	if failure := <-failed; err == nil {
		err = failure
	}
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return fmt.Errorf("no longer watched, and not cancelled: %s", w.id)
	}
	if err == nil && w.tree.Status() != "COMPLETED" {
		return errSaid
	}
	return err
}

// follow reads events until the execution ends, over as many connections as it takes.
func (w *watching) follow(ctx context.Context, to chan<- watch.Message) error {
	for failures := 0; ; {
		ended, err := w.connect(ctx, to, func() { failures = 0 })
		if ended || ctx.Err() != nil {
			return ctx.Err()
		}
		failures++
		var gone *unreachableError
		if err != nil && !errors.As(err, &gone) || failures > watchAttempts {
			return err
		}
		select {
		case <-time.After(watchPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// connect reads one stream, and reports whether it held the end of the execution.
func (w *watching) connect(ctx context.Context, to chan<- watch.Message, alive func()) (bool, error) {
	headers := http.Header{"Accept": {"text/event-stream"}}
	if w.last != "" {
		headers["Last-Event-ID"] = []string{w.last}
	}
	resp, err := w.r.api.send(ctx, http.MethodGet, executionPath(w.id, "/events"), headers, nil)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }() // only read from
	if resp.StatusCode != http.StatusOK {
		err := problemOf(w.r.api.url, resp)
		if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
			err = &unreachableError{w.r.api.url, err} // it may be better in a moment
		}
		return false, err
	}
	ended := false
	err = watch.Stream(resp.Body, func(m watch.Message) error {
		alive()
		select {
		case to <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
		if m.ID != "" {
			w.last = m.ID
		}
		if ended = m.Terminal(); ended {
			return io.EOF // nothing more is to come, whether or not somebody keeps the connection open
		}
		return nil
	})
	if ended {
		return true, nil
	}
	if err != nil {
		err = &unreachableError{w.r.api.url, err}
	}
	return false, err
}

// draw shows messages as they come.
func (w *watching) draw(ctx context.Context, messages <-chan watch.Message) error {
	show := w.screen(ctx)
	tick := time.NewTicker(redraw)
	defer tick.Stop()
	for {
		select {
		case m, more := <-messages:
			if !more {
				return show.End(time.Now())
			}
			if m.Event == "progress" {
				w.tree.Progress(m.Data) // drawn with the next tick
				continue
			}
			e, err := watch.Read(m.Data)
			if err != nil {
				return err
			}
			w.tree.Apply(e)
			if e.Name() == "requested" {
				w.outline(ctx, e)
			}
			if err := show.Event(e, m.Data); err != nil {
				return err
			}
		case <-tick.C:
			if err := show.Tick(time.Now()); err != nil {
				return err
			}
		}
	}
}

// outline tells the tree how the nodes of a stored workflow hang together. Without it the tree is a list.
func (w *watching) outline(ctx context.Context, requested watch.Event) {
	id, version := requested.Workflow()
	if id == "" {
		return
	}
	var kept struct {
		Spec json.RawMessage `json:"spec"`
	}
	path := "/workflows/" + url.PathEscape(id) + "?version=" + strconv.Itoa(version)
	if w.r.api.call(ctx, http.MethodGet, path, nil, &kept) == nil { // a key that may not read workflows sees the list
		w.tree.Outline(kept.Spec)
	}
}

// screen is what suits stdout.
func (w *watching) screen(context.Context) watch.Screen {
	p := w.r.p
	if w.r.output == "json" {
		return watch.JSON(p.stdout)
	}
	file, ok := p.terminal()
	if !ok || p.env("TERM") == "dumb" {
		return watch.Lines(p.stdout, w.tree, watch.Plain)
	}
	size := func() (int, int) {
		width, height, err := term.GetSize(int(file.Fd()))
		if err != nil {
			return 80, 24
		}
		return width, height
	}
	return watch.Live(p.stdout, w.tree, w.palette(), size)
}

func (w *watching) palette() watch.Palette {
	paint := w.r.p.paint()
	return watch.Palette{Good: paint.green, Bad: paint.red, Waits: paint.yellow, Dim: paint.dim, Bold: paint.bold}
}
