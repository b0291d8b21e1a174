// Package leaktest fails the tests of a package that leave goroutines behind. One that ends by itself is no leak, however
// slow the machine: only what is still there after half a minute is.
package leaktest

import (
	"fmt"
	"os"
	"time"

	"go.uber.org/goleak"
)

const patience = 30 * time.Second

// known are goroutines of libraries that nobody can stop, or that take long to notice that they were.
var known = []goleak.Option{
	// Of a NATS client whose connection was closed just as it began its first publish.
	goleak.IgnoreTopFunction("github.com/nats-io/nats.go/jetstream.(*jetStream).resetPendingAcksOnReconnect"),
	// A closed pool of the Redis client looks for its server once more, a second after it could not reach it.
	goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"),
	// fasthttp's pool looks every ten seconds whether it has been stopped,
	goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
	// and it keeps the time for its headers in one goroutine for ever.
	goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
}

// VerifyTestMain is for TestMain: it runs the tests, looks for goroutines and exits.
func VerifyTestMain(m goleak.TestingM) {
	code := m.Run()
	if code == 0 {
		if err := find(patience); err != nil {
			fmt.Fprintln(os.Stderr, "leaktest: all tests passed, but:", err)
			code = 1
		}
	}
	os.Exit(code) //nolint:forbidigo // what TestMain ends with
}

// find waits until no goroutine is left but those that were there before, and known ones.
func find(bound time.Duration, options ...goleak.Option) error {
	deadline := time.Now().Add(bound)
	for {
		err := goleak.Find(append(options, known...)...) // itself looks for half a second
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
