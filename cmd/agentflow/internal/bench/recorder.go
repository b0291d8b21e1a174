package bench

import (
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Histograms keep three digits from a microsecond to ten minutes, in 170 KB each.
const (
	shortest = 1
	longest  = int64(10 * time.Minute / time.Microsecond)
	digits   = 3
)

// recorder collects outcomes. Clients share shards, not one lock: a thousand histograms would not fit a cache.
type recorder struct {
	shards [16]shard

	first, last time.Time
	open        bool // the window ends with its last answer

	answered atomic.Int64 // all, warm-up included
	failed   atomic.Int64 // of them
}

type shard struct {
	mu       sync.Mutex
	kinds    map[string]*hdrhistogram.Histogram
	faults   map[string]int64
	inWindow int64     // good answers that came within the window
	latest   time.Time // good answer
}

func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(shortest, longest, digits) }

// window says what is measured: requests begun, and for the rate answers that came, from first to last.
func (r *recorder) window(first, last time.Time, open bool) {
	r.first, r.last, r.open = first, last, open
}

// add records a request of a client that was due at a time and answered at another.
func (r *recorder) add(client int, o outcome, intended, answered time.Time) {
	r.answered.Add(1)
	if o.fault != "" {
		r.failed.Add(1)
	}
	measured := !intended.Before(r.first)
	counts := o.fault == "" && !answered.Before(r.first) && (r.open && measured || !r.open && answered.Before(r.last))
	s := &r.shards[client%len(r.shards)]
	s.mu.Lock()
	defer s.mu.Unlock()
	if counts {
		s.inWindow++
		if answered.After(s.latest) {
			s.latest = answered
		}
	}
	switch {
	case !measured:
	case o.fault != "":
		if s.faults == nil {
			s.faults = map[string]int64{}
		}
		s.faults[o.fault]++
	default:
		h := s.kinds[o.kind]
		if h == nil {
			if s.kinds == nil {
				s.kinds = map[string]*hdrhistogram.Histogram{}
			}
			h = newHistogram()
			s.kinds[o.kind] = h
		}
		_ = h.RecordValue(min(max(answered.Sub(intended).Microseconds(), shortest), longest)) // within its range
	}
}

// tally is what a recorder has found.
type tally struct {
	all    *hdrhistogram.Histogram
	kinds  map[string]*hdrhistogram.Histogram
	faults map[string]int64
	took   time.Duration // the window
	rate   float64       // good answers a second
}

func (r *recorder) tally() tally {
	t := tally{all: newHistogram(), kinds: map[string]*hdrhistogram.Histogram{}, faults: map[string]int64{}}
	var good int64
	var latest time.Time
	for i := range r.shards {
		s := &r.shards[i]
		s.mu.Lock()
		good += s.inWindow
		if s.latest.After(latest) {
			latest = s.latest
		}
		for kind, h := range s.kinds {
			if t.kinds[kind] == nil {
				t.kinds[kind] = newHistogram()
			}
			t.kinds[kind].Merge(h)
			t.all.Merge(h)
		}
		for fault, n := range maps.All(s.faults) {
			t.faults[fault] += n
		}
		s.mu.Unlock()
	}
	t.took = r.last.Sub(r.first)
	if r.open {
		t.took = max(0, latest.Sub(r.first))
	}
	if t.took > 0 {
		t.rate = float64(good) / t.took.Seconds()
	}
	return t
}
