package platform

import (
	"os"
	"runtime"
	"runtime/debug"
)

// collectAt is how far the heap grows before it is collected, in percent of what is alive. All that is alive in this
// process is small beside what a machine has, and collecting half as often saves a tenth of the CPU.
const collectAt = 200

// syncing is how many goroutines may run or sync for each processor. One that syncs to disk holds its place in
// Go's scheduler until a monitor notices; with a place for each processor, all work stands still meanwhile.
const syncing = 3

// Tune sets up Go for a process that all services and a NATS server run in, which syncs every message if always is set.
// GOGC and GOMAXPROCS count more.
func Tune(always bool) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if always && os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(syncing * runtime.NumCPU())
	}
}
