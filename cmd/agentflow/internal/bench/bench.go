package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"time"

	"github.com/agentflow/agentflow/pkg/daemon"
)

// Options say what to load with, how hard, and where.
type Options struct {
	Program []string // agentflow itself, to start platforms with
	Environ []string
	Dir     string // where the data folders of platforms are made, and removed; "" for that of the system

	URL, Key   string // a platform that runs already; without it one is started
	Durability string // of one that is started: interval or always

	Plans    []Plan
	Rate     float64 // requests a second that are due; 0: closed loop
	Warmup   time.Duration
	Duration time.Duration
	Requests int64 // measured, whatever time it takes; 0: as many as fit into Duration
	Fill     int64 // three-step executions before anything is measured
	Kept     int64 // workflows in the tables of list; 0 means 100,000
	Stored   bool  // workflows are stored first and run by their id
	Baseline bool
	Idle     time.Duration // wait after each run, then look what the platform still holds
	Profile  string        // file for a CPU profile of the platform, over what is measured of the first run

	Progress io.Writer // a terminal; nil: nobody looks
}

// Plan is one run.
type Plan struct {
	Workload Workload
	Clients  int
}

// Run measures. What it starts it stops, and what it makes on the disk it removes, also when ctx ends. With an error
// the report holds what had been measured before.
func Run(ctx context.Context, o Options) (*Report, error) {
	r := &Report{
		Version: daemon.Version(), Go: runtime.Version(), System: runtime.GOOS + "/" + runtime.GOARCH, CPUs: runtime.NumCPU(),
		Began: time.Now().UTC().Truncate(time.Second), URL: o.URL, Stored: o.Stored, Filled: o.Fill,
	}
	if o.URL == "" {
		r.Durability = o.Durability
	}
	b := &bencher{Options: o, report: r, progress: progress{o.Progress}}
	defer b.progress.say("")
	return r, b.run(ctx)
}

type bencher struct {
	Options
	report   *Report
	progress progress
	laid     bool // the workflows of list are there
}

func (b *bencher) run(ctx context.Context) error {
	loads := false
	for _, plan := range b.Plans {
		if !plan.Workload.start {
			loads = true
			continue
		}
		if err := b.starts(ctx); err != nil {
			return err
		}
	}
	if loads {
		load := b.own
		if b.URL != "" {
			load = b.elsewhere
		}
		if err := load(ctx); err != nil {
			return err
		}
	}
	if !b.Baseline {
		return nil
	}
	return b.compare(ctx)
}

// folder is a place for data, and a way to be rid of it.
func (b *bencher) folder() (string, func() error, error) {
	dir, err := os.MkdirTemp(b.Dir, "agentflow-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder for a platform: %w", err)
	}
	return dir, func() error { return remove(dir) }, nil
}

// remove tries for a while: a server whose platform was killed may be writing its last.
func remove(dir string) error {
	const pause, tries = 50 * time.Millisecond, 100
	for try := 1; ; try++ {
		err := os.RemoveAll(dir)
		if err == nil || try == tries {
			return err
		}
		<-time.After(pause)
	}
}

// own loads a platform that is started for it.
func (b *bencher) own(ctx context.Context) (err error) {
	dir, remove, err := b.folder()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, remove()) }()
	b.progress.say("starting a platform")
	c, err := startChild(ctx, b.Options, filepath.Join(dir, "data"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.stop()) }()
	s, err := openStores(ctx, c, b.Environ)
	if err != nil {
		return err
	}
	defer s.close(ctx)

	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-c.ended:
			cancel(fmt.Errorf("the platform ended: %w%s", c.err, c.stderr.quote()))
		case <-ctx.Done():
		}
	}()
	return b.loads(ctx, c.URL, c.APIKey, &inside{child: c, stores: s})
}

// elsewhere loads a platform that somebody else runs: its insides are not known.
func (b *bencher) elsewhere(ctx context.Context) error { return b.loads(ctx, b.URL, b.Key, nil) }

func (b *bencher) loads(ctx context.Context, address, key string, in *inside) (err error) {
	out, err := startOutside(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.close(ctx)) }()
	if err := b.try(ctx, address, key, out.url); err != nil {
		return err
	}
	if err := b.fill(ctx, address, key); err != nil {
		return err
	}
	for _, plan := range b.Plans {
		if plan.Workload.start {
			continue
		}
		if err := b.measure(ctx, plan, address, key, out.url, in); err != nil {
			return err
		}
	}
	return nil
}

// try makes sure that every workload works here before minutes are spent on any.
func (b *bencher) try(ctx context.Context, address, key, outside string) (err error) {
	b.progress.say("trying the workloads")
	api, err := newAPI(address, key, 1)
	if err != nil {
		return err
	}
	defer api.close()
	t := &target{api: api, outside: outside, run: runName()}
	defer func() { err = errors.Join(err, b.leave(t)) }()
	tried := map[string]bool{}
	for _, plan := range b.Plans {
		if name := plan.Workload.Name; !plan.Workload.start && !tried[name] {
			tried[name] = true
			if err := plan.Workload.try(ctx, t); err != nil {
				return err
			}
		}
	}
	return nil
}

// leave takes back what was stored, unless all of the platform goes anyway.
func (b *bencher) leave(t *target) error {
	if b.URL == "" {
		return nil
	}
	return t.forget()
}

const fillClients = 64

// fill makes the executions that are to be there already.
func (b *bencher) fill(ctx context.Context, address, key string) error {
	if b.Fill == 0 {
		return nil
	}
	api, err := newAPI(address, key, fillClients)
	if err != nil {
		return err
	}
	defer api.close()
	senders := make([]sender, fillClients)
	for i := range senders {
		if senders[i], err = ThreeStep.sender(&target{api: api}, i); err != nil {
			return err
		}
	}
	rec, l := &recorder{}, load{requests: b.Fill}
	stopShowing := b.progress.show("filling", l, rec)
	l.run(ctx, rec, senders)
	stopShowing()
	if faults := rec.tally().faults; len(faults) > 0 && ctx.Err() == nil {
		return fmt.Errorf("fill the platform: %v", faults)
	}
	return context.Cause(ctx)
}

// runName tells what this run stores from what others did.
func runName() string { return strconv.FormatInt(time.Now().UnixMicro(), 36) }

// measure loads with one workload and adds what came out to the report.
func (b *bencher) measure(ctx context.Context, plan Plan, address, key, outside string, in *inside) (err error) {
	w, clients := plan.Workload, plan.Clients
	api, err := newAPI(address, key, clients)
	if err != nil {
		return err
	}
	defer api.close()
	t := &target{api: api, outside: outside, run: runName()}
	defer func() { err = errors.Join(err, b.leave(t)) }()
	if b.Stored {
		t.stored = map[string]string{}
		for _, one := range w.parts() {
			if err := t.store(one); err != nil {
				return err
			}
		}
	}
	senders := make([]sender, clients)
	for i := range senders {
		if senders[i], err = w.sender(t, i); err != nil {
			return err
		}
	}

	if err := b.prepare(ctx, w, in); err != nil {
		return err
	}
	before, err := in.look(ctx)
	if err != nil {
		return err
	}
	rec := &recorder{}
	m := Measurement{Workload: w.Name, Clients: clients, Due: b.Rate, WarmupSeconds: b.Warmup.Seconds(), Execution: w.execution}
	profiled := b.profile(ctx, in)
	l := b.load()
	stopShowing := b.progress.show(label(w.Name, clients), l, rec)
	l.run(ctx, rec, senders)
	stopShowing()
	if err := errors.Join(context.Cause(ctx), profiled()); err != nil {
		return err
	}
	m.read(rec.tally())
	b.progress.say(label(w.Name, clients) + ": waiting for the tables")
	if m.Cost, err = in.cost(ctx, before, rec.answered.Load(), b.Idle); err != nil {
		return err
	}
	b.report.Runs = append(b.report.Runs, m)
	return nil
}

func (b *bencher) load() load {
	return load{rate: b.Rate, warmup: b.Warmup, duration: b.Duration, requests: b.Requests}
}

// profile takes a CPU profile of the platform over the first run, if one is wanted. The function waits for it.
func (b *bencher) profile(ctx context.Context, in *inside) (wait func() error) {
	if b.Profile == "" || in == nil || len(b.report.Runs) > 0 {
		return func() error { return nil }
	}
	done := make(chan error, 1)
	go func() {
		select {
		case <-time.After(b.Warmup):
			done <- in.child.profile(ctx, b.Profile, b.Duration)
		case <-ctx.Done():
			done <- nil
		}
	}()
	return func() error { return <-done }
}

func label(name string, clients int) string {
	if clients == 1 {
		return name + ", 1 client"
	}
	return fmt.Sprintf("%s, %d clients", name, clients)
}

// parts are the workloads that a workload is made of.
func (w Workload) parts() []Workload {
	if w.Name != "mixed" {
		return []Workload{w}
	}
	var parts []Workload
	for _, one := range single {
		if one.order != nil {
			parts = append(parts, one)
		}
	}
	return parts
}
