package bench

import (
	"fmt"
	"io"
	"time"
)

// Progress is told how things go.
type Progress interface {
	// Say tells what is being done now.
	Say(what string)
	// Show tells how a load goes until the function is called.
	Show(what string, during time.Duration, requests int64, rec *recorder) (stop func())
}

// quiet tells nothing.
type quiet struct{}

func (quiet) Say(string)                                                  {}
func (quiet) Show(string, time.Duration, int64, *recorder) (stop func()) { return func() {} }

// Line is a progress line on a terminal, written over and over. Clear it in the end.
type Line struct{ W io.Writer }

const overwrite = "\r\x1b[K"

// Say writes one.
func (l Line) Say(what string) { _, _ = io.WriteString(l.W, overwrite+what) } // nobody may be looking

// Clear removes it.
func (l Line) Clear() { l.Say("") }

const showEvery = 500 * time.Millisecond

// Show writes one twice a second.
func (l Line) Show(what string, during time.Duration, requests int64, rec *recorder) (stop func()) {
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
			answered := rec.answered.Load()
			end := during.String()
			if requests > 0 {
				end = whole(requests) + " requests"
			}
			l.Say(fmt.Sprintf("%s: %s of %s, %s/s, %s answered, %s failed", what, time.Since(began).Round(time.Second), end,
				number(float64(answered-before)/showEvery.Seconds()), whole(answered), whole(rec.failed.Load())))
			before = answered
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

var _, _ Progress = quiet{}, Line{}
