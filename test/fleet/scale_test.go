//go:build e2e

package fleet_test

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fleet"
)

// TestScale: on work that waits for others, 100 ms a call, twice the executors do twice the work. Each may run 4 executions
// at a time, of which one tenant gets 3, so that the calls and not this machine's processors are the limit. There is one
// partition: an executor that waits for the jobs of one keeps a slot free for them.
func TestScale(t *testing.T) {
	const slots, clients = 3, 8 // of each executor
	f := fleet.Start(t, fleet.Options{Executors: 4, Env: []string{"EXECUTOR_CONCURRENCY=4", "EXECUTION_PARTITIONS=1"}})
	f.Settle(t)
	body := object{"workflow": calling(t, 100*time.Millisecond)}
	for _, p := range f.Executors[1:] {
		require.NoError(t, p.Stop())
	}
	rates := map[int]float64{}
	running := 1
	for _, n := range []int{1, 2, 4} {
		for ; running < n; running++ {
			require.NoError(t, f.Executors[running].Up(t.Context()))
		}
		rates[n] = throughput(t, f, body, n*clients, 12*time.Second)
		t.Logf("%d executors: %.1f executions/s; the slots could do %d", n, rates[n], n*slots*10)
	}
	for _, p := range append(f.Services(), f.NATS.Servers...) {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID()))
		if err != nil {
			continue // no /proc here
		}
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "VmHWM") {
				t.Logf("%s: %s", p.Name, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	require.GreaterOrEqual(t, rates[2]/rates[1], 1.9)
	require.GreaterOrEqual(t, rates[4]/rates[1], 3.6)
}

// throughput is how many executions a second are answered to so many clients, each of which waits for its answer.
func throughput(t *testing.T, f *fleet.Fleet, body object, clients int, measured time.Duration) float64 {
	t.Helper()
	var (
		counting atomic.Bool
		answers  atomic.Int64
		stop     = make(chan struct{})
		wg       sync.WaitGroup
	)
	for i := range clients {
		p := f.Gateway(i % len(f.Gateways))
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				a, err := p.Try(t, http.MethodPost, "/workflows/execute", body)
				if err != nil || a.Status != http.StatusOK {
					t.Errorf("%v, status %d: %.300s", err, a.Status, a.Body)
					return
				}
				if counting.Load() {
					answers.Add(1)
				}
			}
		})
	}
	<-time.After(2 * time.Second) // until every client waits
	counting.Store(true)
	began := time.Now()
	<-time.After(measured)
	counting.Store(false)
	rate := float64(answers.Load()) / time.Since(began).Seconds()
	close(stop)
	wg.Wait()
	return rate
}
