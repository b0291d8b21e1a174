package engine

import (
	"sync"
	"time"
)

// crew runs executions on goroutines that stay a while for the next one: a stack that has grown for one
// execution need not grow for every other.
type crew struct {
	work chan func()
	all  sync.WaitGroup
}

// rest is how long a goroutine waits for work before it ends.
const rest = 5 * time.Second

// do runs f on its own goroutine; it never waits for one to be free.
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
		case f, more := <-c.work:
			if !more {
				return
			}
			f()
			idle.Reset(rest)
		case <-idle.C:
			return
		}
	}
}

// dismiss waits until all is done. Nobody may call do any more.
func (c *crew) dismiss() {
	close(c.work)
	c.all.Wait()
}
