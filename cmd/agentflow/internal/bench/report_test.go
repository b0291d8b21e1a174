package bench

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus"
)

func TestWrittenSince(t *testing.T) {
	t.Parallel()
	at := func(first, last, messages, bytes uint64) level {
		return level{streams: map[string]bus.StreamState{"S": {First: first, Last: last, Messages: messages, Bytes: bytes}}}
	}
	require.EqualValues(t, 900, at(1, 10, 10, 1000).writtenSince(at(1, 1, 1, 100)))
	require.EqualValues(t, 1000, at(1, 10, 10, 1000).writtenSince(at(0, 0, 0, 0)), "into an empty log")
	require.EqualValues(t, 900, at(6, 10, 5, 500).writtenSince(at(1, 1, 1, 100)), "trimmed meanwhile")
	require.EqualValues(t, 800, at(11, 10, 0, 0).writtenSince(at(1, 2, 2, 200)), "trimmed to nothing")
}

func TestNumbers(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1234: "-1,234", -123: "-123"} {
		require.Equal(t, want, whole(n))
	}
	for v, want := range map[float64]string{0.123: "0.12", 12.34: "12.3", 123.4: "123", 1234.5: "1,235"} {
		require.Equal(t, want, number(v))
	}
	require.Equal(t, "512 B", size(512))
	require.Equal(t, "20.0 KB", size(20<<10))
	require.Equal(t, "300 MB", size(300<<20))
	require.Equal(t, "1.235s", seconds(1.2346))
}

func TestTable(t *testing.T) {
	t.Parallel()
	r := &Report{
		Version: "1.2.3", Go: "go1", System: "linux/amd64", CPUs: 2, Durability: "interval",
		Startup: &Startup{FreshSeconds: 1.5, WarmSeconds: 0.25, ResidentBytes: 80 << 20},
		Runs: []Measurement{{
			Workload: "crud", Clients: 64, PerSecond: 4000, OfBare: 0.375,
			Latency: Latency{Requests: 40000, P50: 14.5, P90: 20, P99: 50, P999: 60, Max: 1500},
			Kinds:   map[string]Latency{"get": {Requests: 20000, P50: 3}, "list": {}},
			Errors:  map[string]int64{"503 UNAVAILABLE": 1234},
			Cost: &Cost{CPU: map[string]float64{"client": 60, "agentflow": 350, "postgres": 99.5}, Inside: &Inside{
				JetStreamBytes: 3000, PostgresBytes: 2000, WALBytes: 20000, Memory: map[string]int64{"agentflow": 200 << 20},
				GoroutinesBefore: 100, Goroutines: 120, Behind: 1500, DrainSeconds: 0.5,
				Idle: &Idle{Seconds: 30, ResidentBytes: 100 << 20, JetStreamBytes: 1 << 20, PostgresBytes: 2 << 20, Goroutines: 99},
			}},
		}},
		Bare: []Measurement{{Workload: bareName, Clients: 64, PerSecond: 10666, Cost: &Cost{CPU: map[string]float64{bareName: 90}}}},
	}
	var b bytes.Buffer
	require.NoError(t, r.Table(&b))
	require.Equal(t, `agentflow 1.2.3, go1, linux/amd64, 2 CPUs; a platform of its own, durability interval; workflows in the request

agentflow up: 1.5s on an empty folder, 250ms again; holds 80.0 MB

  workload   clients  requests  per second  p50 ms  p90 ms  p99 ms  p99.9 ms  max ms  errors  of bare
  crud            64    40,000       4,000    14.5    20.0    50.0      60.0   1,500   1,234     0.38
    get                 20,000                3.00    0.00    0.00      0.00    0.00
    list                     0                   -       -       -         -       -
  bare path       64         0      10,666       -       -       -         -       -       0        -

  per request  clients  agentflow µs  postgres µs  client µs  bare path µs  JetStream  Postgres  its WAL
  crud              64           350         99.5       60.0             -    3,000 B   2,000 B  19.5 KB
  bare path         64             -            -          -          90.0          -         -        -

  memory  clients  agentflow peak  postgres  redis  goroutines  tables behind  caught up after
  crud         64          200 MB       0 B    0 B  100 -> 120          1,500            500ms

crud, 64 clients after 30s of idling: holds 100 MB, 99 goroutines; 1.00 MB in JetStream, 2.00 MB in Postgres

crud, 64 clients: 1,234 × 503 UNAVAILABLE
`, b.String())

	b.Reset()
	require.NoError(t, (&Report{URL: "http://x", Stored: true}).Table(&b))
	require.Contains(t, b.String(), "; http://x; workflows stored\n")
}

func TestProgress(t *testing.T) {
	t.Parallel()
	var b bytes.Buffer
	progress{&b}.say("hello")
	progress{&b}.say("")
	require.Equal(t, overwrite+"hello"+overwrite, b.String())
	progress{}.say("nobody looks")
}
