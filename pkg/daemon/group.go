package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"go.uber.org/zap"
)

// lastGrace is what each remaining part gets to close once the shutdown timeout is over.
const lastGrace = time.Second

// Errors of a group, wrapped with the name of the part.
var (
	ErrEnded   = errors.New("ended by itself")      // a part returned nil though nobody stopped it
	ErrTooSlow = errors.New("did not stop in time") // the shutdown timeout passed
	errLate    = errors.New("the group has run")    // Add after Run
	errNothing = errors.New("has nothing to do")    // a part with neither Run nor Stop
)

// Part is one piece of a service with a life of its own.
type Part struct {
	Name string
	// Run works until its context ends, and returns when everything it started has ended. nil for a door, which
	// only needs closing.
	Run func(ctx context.Context) error
	// Stop makes Run finish in order, such as http.Server.Shutdown, or closes a door. Its context carries the
	// deadline; the context of Run lives until then, so work in hand is not cut off. nil: the end of Run's context
	// is the request to stop.
	Stop func(ctx context.Context) error
}

// Group runs the parts of a service and stops them in the reverse of the order they were added: doors first in,
// intake last in, so intake ends first and doors close last, each after everything behind it has stopped.
//
// A Group belongs to one goroutine.
type Group struct {
	// Timeout is what all parts together get to stop, SHUTDOWN_TIMEOUT_SECONDS unless changed before Run. A group
	// of groups needs more than the groups in it.
	Timeout time.Duration

	rt    *Runtime
	parts []*part
	ran   bool
	outer bool // main's own, which runs before the service has started
}

type part struct {
	Part
	cancel context.CancelFunc
	done   chan struct{} // closed when Run has returned; nil for a door
	err    error         // of Run; read after done
}

// Group makes an empty group that logs and reports through rt.
func (rt *Runtime) Group() *Group { return &Group{rt: rt, Timeout: rt.config.ShutdownTimeout} }

// Add appends a part. Nothing starts before Run.
func (g *Group) Add(p Part) {
	switch {
	case g.ran:
		panic(fmt.Sprintf("daemon: add %s: %v", p.Name, errLate))
	case p.Run == nil && p.Stop == nil:
		panic(fmt.Sprintf("daemon: add %s: %v", p.Name, errNothing))
	}
	g.parts = append(g.parts, &part{Part: p})
}

// Door appends something open that must be closed in its turn.
func (g *Group) Door(name string, shut func(ctx context.Context) error) {
	g.Add(Part{Name: name, Stop: shut})
}

// Close closes the doors of a group that never came to run, because opening the next one failed. Defer it where
// the group is made; after Run it does nothing. It takes its time even when ctx has ended.
func (g *Group) Close(ctx context.Context) {
	if g.ran {
		return
	}
	g.ran = true
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.Timeout)
	defer cancel()
	if err := g.stop(ctx); err != nil {
		g.rt.Log.Warn("closing after a failed start", zap.Error(err))
	}
}

// Run starts every part and waits until ctx ends or a part does, then stops them all. It returns when all of them
// have stopped, or when those that have not are past the shutdown timeout. A part that ends on its own, a panic,
// and a part too slow to stop are errors; the end of ctx is not.
func (g *Group) Run(ctx context.Context) error {
	g.ran = true
	ended := make(chan *part, len(g.parts))
	for _, p := range g.parts {
		g.start(ctx, p, ended)
	}
	if !g.outer {
		g.rt.Health.starting.Store(false)
	}
	var cause error
	select {
	case <-ctx.Done():
	case p := <-ended:
		if p.err == nil {
			p.err = ErrEnded
		}
		cause = fmt.Errorf("%s: %w", p.Name, p.err)
		p.err = nil // told once
	}
	g.rt.Log.Debug("stopping", zap.NamedError("cause", cause), zap.Duration("within", g.Timeout))
	g.rt.Health.Drain() // whoever began it: a process that loses one group ends
	deadline, cancel := context.WithTimeout(context.WithoutCancel(ctx), g.Timeout)
	defer cancel()
	return errors.Join(cause, g.stop(deadline))
}

// start runs p in a goroutine that g.stop waits for. The context keeps the values of ctx but not its end, since
// parts end in order.
func (g *Group) start(ctx context.Context, p *part, ended chan<- *part) {
	if p.Run == nil {
		return
	}
	ctx, p.cancel = context.WithCancel(context.WithoutCancel(ctx))
	p.done = make(chan struct{})
	go func() {
		p.err = g.guard(ctx, p.Run)
		ended <- p
		close(p.done)
	}()
}

// guard calls f and turns a panic into an error.
func (g *Group) guard(ctx context.Context, f func(context.Context) error) (err error) {
	defer g.rt.Recover(ctx, &err)
	return f(ctx)
}

func (g *Group) stop(ctx context.Context) error {
	var errs []error
	for i := len(g.parts) - 1; i >= 0; i-- {
		p := g.parts[i]
		if err := g.stopPart(ctx, p); err != nil {
			errs = append(errs, fmt.Errorf("stop %s: %w", p.Name, err))
			continue
		}
		g.rt.Log.Debug("stopped", zap.String("part", p.Name))
	}
	return errors.Join(errs...)
}

func (g *Group) stopPart(ctx context.Context, p *part) error {
	if ctx.Err() != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), lastGrace)
		defer cancel()
	}
	var stopErr error
	if p.Stop != nil {
		stopErr = g.bounded(ctx, p.Stop)
	}
	if p.done == nil {
		return stopErr
	}
	defer p.cancel()
	if p.Stop == nil || stopErr != nil {
		p.cancel()
	}
	select {
	case <-p.done:
		return errors.Join(stopErr, unlessAsked(p.err))
	case <-ctx.Done():
	}
	p.cancel()
	grace := time.NewTimer(lastGrace)
	defer grace.Stop()
	select {
	case <-p.done:
		return errors.Join(stopErr, unlessAsked(p.err))
	case <-grace.C:
		return errors.Join(stopErr, ErrTooSlow)
	}
}

// bounded calls f, and leaves it behind when it does not respect its deadline.
func (g *Group) bounded(ctx context.Context, f func(context.Context) error) error {
	result := make(chan error, 1)
	go func() { result <- g.guard(ctx, f) }()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	grace := time.NewTimer(lastGrace)
	defer grace.Stop()
	select {
	case err := <-result:
		return err
	case <-grace.C:
		return ErrTooSlow
	}
}

// unlessAsked drops the errors with which Run says that it was asked to end.
func unlessAsked(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}
