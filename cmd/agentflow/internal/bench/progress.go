package bench

import (
	"fmt"
	"io"
	"time"
)

// progress is a line on a terminal, written over and over; without a writer, nothing.
type progress struct{ w io.Writer }

const overwrite = "\r\x1b[K"

// say tells what is being done now; with nothing to say the line is removed.
func (p progress) say(what string) {
	if p.w != nil {
		_, _ = io.WriteString(p.w, overwrite+what) // nobody may be looking
	}
}

const showEvery = 500 * time.Millisecond

// show tells twice a second how a load goes, until the function is called.
func (p progress) show(what string, l load, rec *recorder) (stop func()) {
	if p.w == nil {
		return func() {}
	}
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(showEvery)
		defer ticker.Stop()
		began, before := time.Now(), int64(0)
		for {
			select {
			case <-quit:
				return
			case <-ticker.C:
			}
			end := (l.warmup + l.duration).String()
			if l.requests > 0 {
				end = whole(l.requests) + " requests"
			}
			answered := rec.answered.Load()
			p.say(fmt.Sprintf("%s: %s of %s, %s/s, %s answered, %s failed", what, time.Since(began).Round(time.Second), end,
				number(float64(answered-before)/showEvery.Seconds()), whole(answered), whole(rec.failed.Load())))
			before = answered
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}
