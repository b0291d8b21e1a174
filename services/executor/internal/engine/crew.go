package engine

import (
	"sync"
	"time"
)

// crew runs functions on goroutines that stay a while for the next one: a stack that has grown for one execution need
// not grow for every other.
type crew struct {
	work chan func()
	over chan struct{}
	all  sync.WaitGroup
}

func newCrew() *crew { return &crew{work: make(chan func()), over: make(chan struct{})} }

// rest is how long a goroutine waits for work before it ends.
const rest = 5 * time.Second

// do runs f on a goroutine of its own; it never waits for one to be free.
func (c *crew) do(f func()) {
	select {
	case c.work <- f:
	default:
		c.all.Go(func() { c.stay(f) })
	}
}

func (c *crew) stay(f func()) {
	f()
	idle := time.NewTimer(rest)
	defer idle.Stop()
	for {
		select {
		case f := <-c.work:
			f()
			idle.Reset(rest)
		case <-idle.C:
			return
		case <-c.over:
			return
		}
	}
}

// dismiss has nobody stay any longer. What is being done goes on, and so does what is given after this.
func (c *crew) dismiss() { close(c.over) }
