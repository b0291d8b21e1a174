package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is everything that was measured.
type Report struct {
	Version    string        `json:"version"`
	Go         string        `json:"go"`
	System     string        `json:"system"`
	CPUs       int           `json:"cpus"`
	Began      time.Time     `json:"began"`
	URL        string        `json:"url,omitempty"`        // of a platform that ran already
	Durability string        `json:"durability,omitempty"` // of one that was started
	Stored     bool          `json:"stored"`               // workflows ran by their id
	Filled     int64         `json:"filled,omitempty"`     // executions before anything was measured
	Startup    *Startup      `json:"startup,omitempty"`
	Runs       []Measurement `json:"runs,omitempty"`
	Bare       []Measurement `json:"bare,omitempty"` // the bare path, one for each number of clients
}

// Startup is how long agentflow up takes until it is ready.
type Startup struct {
	FreshSeconds  float64 `json:"fresh_seconds"` // on an empty folder
	WarmSeconds   float64 `json:"warm_seconds"`  // again
	ResidentBytes int64   `json:"resident_bytes"`
}

// Measurement is one workload with one number of clients.
type Measurement struct {
	Workload      string             `json:"workload"`
	Clients       int                `json:"clients"`
	Due           float64            `json:"due_per_second,omitempty"` // open loop
	WarmupSeconds float64            `json:"warmup_seconds"`
	Seconds       float64            `json:"seconds"` // measured
	PerSecond     float64            `json:"per_second"`
	OfBare        float64            `json:"of_bare,omitempty"` // per_second in relation to the bare path's
	Latency       Latency            `json:"latency"`
	Kinds         map[string]Latency `json:"kinds,omitempty"` // where there are several kinds of requests
	Errors        map[string]int64   `json:"errors,omitempty"`
	Cost          *Cost              `json:"cost,omitempty"`
	Execution     bool               `json:"-"`
}

// Latency is how long good answers took, from when they were due.
type Latency struct {
	Requests int64   `json:"requests"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P90      float64 `json:"p90_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p99_9_ms"`
	Max      float64 `json:"max_ms"`
}

// Cost is what a request has cost, over all of a run: warm-up, and the tables' catching up.
type Cost struct {
	Requests int64              `json:"requests"` // answered, warm-up included
	CPU      map[string]float64 `json:"cpu_us_per_request"`
	*Inside
}

// Inside is what only shows on a platform of our own.
type Inside struct {
	JetStreamBytes   float64          `json:"jetstream_bytes_per_request"`
	PostgresBytes    float64          `json:"postgres_bytes_per_request"` // growth of the database
	WALBytes         float64          `json:"postgres_wal_bytes_per_request"`
	Memory           map[string]int64 `json:"memory_bytes"` // peak; of several processes together: at the end
	GoroutinesBefore int64            `json:"goroutines_before"`
	Goroutines       int64            `json:"goroutines_after"`
	Behind           int64            `json:"projector_behind_messages"` // when the load ended
	DrainSeconds     float64          `json:"projector_drain_seconds"`   // until the tables had all
	Idle             *Idle            `json:"idle,omitempty"`
}

// Idle is what a platform holds some time after a load.
type Idle struct {
	Seconds        float64 `json:"seconds"`
	ResidentBytes  int64   `json:"resident_bytes"`
	JetStreamBytes int64   `json:"jetstream_bytes"`
	PostgresBytes  int64   `json:"postgres_bytes"`
	Goroutines     int64   `json:"goroutines"`
}

// Failed is how many requests did not count.
func (m Measurement) Failed() int64 {
	var n int64
	for _, count := range m.Errors {
		n += count
	}
	return n
}

func (m *Measurement) read(t tally) {
	m.Seconds, m.PerSecond, m.Latency = t.took.Seconds(), t.rate, latencyOf(t.all)
	if len(t.kinds) > 1 {
		m.Kinds = make(map[string]Latency, len(t.kinds))
		for kind, h := range t.kinds {
			m.Kinds[kind] = latencyOf(h)
		}
	}
	if len(t.faults) > 0 {
		m.Errors = t.faults
	}
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	at := func(percentile float64) float64 { return milliseconds(h.ValueAtQuantile(percentile)) }
	return Latency{
		Requests: h.TotalCount(), Mean: h.Mean() / 1000, Max: milliseconds(h.Max()),
		P50: at(50), P90: at(90), P99: at(99), P999: at(99.9),
	}
}

func milliseconds(us int64) float64 { return float64(us) / 1000 }
