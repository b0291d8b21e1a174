package chaos

import (
	"testing"
	"time"

	"github.com/agentflow/agentflow/test/platform"
)

// BenchmarkTakeover kills the executor of an execution and waits until another one makes its call again, at the default
// settings.
func BenchmarkTakeover(b *testing.B) {
	_, url := startNATS(b)
	log := connect(b, url)
	for b.Loop() {
		b.StopTimer()
		w := newWorld(b)
		arrived, gate := w.holding()
		first := executor(b, "-first", url, 10*time.Second)
		platform.Await(b, "an executor", first.ready)
		key := request(b, log, two(w))
		next(b, arrived)
		second := executor(b, "-second", url, 10*time.Second)
		platform.Await(b, "another executor", second.ready)
		b.StartTimer()
		first.hold()
		next(b, arrived)
		b.StopTimer()
		completedOnce(b, log, w, key)
		close(gate)
		second.hold()
		b.StartTimer()
	}
}
