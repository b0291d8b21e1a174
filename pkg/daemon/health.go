package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	checkTimeout = time.Second
	// reportAge is how long a report is good for. Probes from a load balancer, a kubelet and a colleague must not
	// add up to load on a store.
	reportAge = 500 * time.Millisecond
)

// Readiness of the whole, and state of one check.
const (
	StatusReady    = "ready"
	StatusDegraded = "degraded"  // an optional check fails; requests are still welcome
	StatusNotReady = "not_ready" // a required check fails
	StatusDraining = "draining"  // the process is about to end
	StatusStarting = "starting"  // the service is not open yet
	StatusOK       = "ok"
	StatusFailed   = "failed"
)

// Report is the answer of a readiness probe.
type Report struct {
	Status string                 `json:"status"`
	Checks map[string]CheckReport `json:"checks"`
	Time   time.Time              `json:"timestamp"`
}

// Code is the HTTP status that goes with the report.
func (r Report) Code() int {
	if r.Status == StatusReady || r.Status == StatusDegraded {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// CheckReport is the state of one dependency.
type CheckReport struct {
	Status   string `json:"status"`
	Required bool   `json:"required"`
	Error    string `json:"error,omitempty"`
	Detail   string `json:"detail,omitempty"`
}

// Health knows what a process depends on. The runtimes of one process share it; each names its checks with a
// prefix of its own.
type Health struct {
	*checks
	prefix string
}

type checks struct {
	up *prometheus.GaugeVec

	probing sync.Mutex // held while checks run, so that probes at once run them once

	mu       sync.Mutex // of what follows; never held while a check runs
	list     []*healthCheck
	report   Report
	reported bool

	starting atomic.Bool // held by main until the service runs

	draining sync.Once
	drained  chan struct{}
	running  sync.WaitGroup
}

type healthCheck struct {
	name     string
	required bool
	probe    func(context.Context) error
	detail   string
	// busy holds a token while the probe runs. A probe that ignores its deadline is not started a second time.
	busy chan struct{}
}

func newHealth(metrics prometheus.Registerer) *Health {
	up := prometheus.NewGaugeVec(prometheus.GaugeOpts{
		Name: "agentflow_health_check_up",
		Help: "1 when the dependency answered the last health check, 0 when it did not.",
	}, []string{"check"})
	metrics.MustRegister(up)
	return &Health{checks: &checks{up: up, drained: make(chan struct{})}}
}

// within is the same health with a prefix for the names of further checks.
func (h *Health) within(prefix string) *Health {
	return &Health{checks: h.checks, prefix: prefix + "/"}
}

// Register adds a dependency. probe gets 1 s. When it fails, a required dependency makes the process not ready,
// an optional one only degraded. A name twice panics.
func (h *Health) Register(name string, required bool, probe func(ctx context.Context) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name = h.prefix + name
	if h.find(name) != nil {
		panic("daemon: health check " + name + " is registered twice")
	}
	h.list = append(h.list, &healthCheck{name: name, required: required, probe: probe, busy: make(chan struct{}, 1)})
	h.reported = false
}

// Note attaches a detail to a registered check, such as which stand-in serves instead of the real thing.
func (h *Health) Note(name, detail string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.find(h.prefix + name); c != nil {
		c.detail = detail
		h.reported = false
	}
}

func (h *Health) find(name string) *healthCheck {
	for _, c := range h.list {
		if c.name == name {
			return c
		}
	}
	return nil
}

// Drain makes the process not ready for good. It is the first step of stopping.
func (h *Health) Drain() { h.draining.Do(func() { close(h.drained) }) }

// Draining says whether Drain was called.
func (h *Health) Draining() bool {
	select {
	case <-h.drained:
		return true
	default:
		return false
	}
}

// Ready runs all checks side by side, or repeats the last report while it is fresh.
func (h *Health) Ready(ctx context.Context) Report {
	h.probing.Lock()
	defer h.probing.Unlock()
	report, list := h.last()
	if list != nil {
		report = h.run(ctx, list)
		h.keep(report)
	}
	switch {
	case h.Draining():
		report.Status = StatusDraining
	case h.starting.Load():
		// The admin port opens first. Checks that nobody has registered yet must not pass for good ones.
		report.Status = StatusStarting
	}
	return report
}

// last is the last report, or the checks to run for a new one.
func (h *Health) last() (Report, []healthCheck) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.reported && time.Since(h.report.Time) < reportAge {
		return h.report, nil
	}
	h.reported = true // until something is registered meanwhile
	list := make([]healthCheck, len(h.list))
	for i, c := range h.list {
		list[i] = *c
	}
	return Report{}, list
}

func (h *Health) keep(report Report) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.report = report
}

func (h *Health) run(ctx context.Context, list []healthCheck) Report {
	// A prober that hangs up must not leave a failed report to the next one.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), checkTimeout)
	defer cancel()
	answers := make([]chan error, len(list))
	for i, c := range list {
		answers[i] = h.start(ctx, c)
	}
	report := Report{Status: StatusReady, Checks: make(map[string]CheckReport, len(list)), Time: time.Now().UTC()}
	for i, c := range list {
		result := CheckReport{Status: StatusOK, Required: c.required, Detail: c.detail}
		up := 1.0
		if err := await(ctx, answers[i]); err != nil {
			up = 0
			result.Status, result.Error = StatusFailed, scrubText(err.Error())
			switch {
			case c.required:
				report.Status = StatusNotReady
			case report.Status == StatusReady:
				report.Status = StatusDegraded
			}
		}
		h.up.WithLabelValues(c.name).Set(up)
		report.Checks[c.name] = result
	}
	return report
}

// start runs the probe in a goroutine that h.running waits for.
func (h *Health) start(ctx context.Context, c healthCheck) chan error {
	answer := make(chan error, 1)
	select {
	case c.busy <- struct{}{}:
	default:
		answer <- errors.New("the check before this one has not come back")
		return answer
	}
	h.running.Go(func() {
		defer func() { <-c.busy }()
		defer func() {
			if v := recover(); v != nil {
				answer <- fmt.Errorf("the check panicked: %v", v)
			}
		}()
		answer <- c.probe(ctx)
	})
	return answer
}

func await(ctx context.Context, answer chan error) error {
	select {
	case err := <-answer:
		return err
	default:
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return fmt.Errorf("no answer within %s", checkTimeout)
	}
}

// wait returns when no probe runs any more, or with ctx.
func (h *Health) wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() { // ends with the last probe; the process is about to end in any case
		h.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a health check does not come back: %w", ctx.Err())
	}
}
