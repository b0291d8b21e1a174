package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
)

// The bare path is the least that an execution can be: its request appended under the fence, taken as a job, one
// commit with everything after it, and the reply. No HTTP, no engine, no tables; all in this process. The events are
// of the size that three-step writes.

// compare measures the bare path with each number of clients that an execution workload ran with, and sets those
// runs in relation to it.
func (b *bencher) compare(ctx context.Context) error {
	for i := range b.report.Runs {
		run := &b.report.Runs[i]
		if !run.Execution {
			continue
		}
		at := slices.IndexFunc(b.report.Bare, func(m Measurement) bool { return m.Clients == run.Clients })
		if at < 0 {
			m, err := b.bare(ctx, run.Clients)
			if err != nil {
				return fmt.Errorf("bare path: %w", err)
			}
			at = len(b.report.Bare)
			b.report.Bare = append(b.report.Bare, m)
		}
		if bare := b.report.Bare[at].PerSecond; bare > 0 {
			run.OfBare = run.PerSecond / bare
		}
	}
	return nil
}

const bareName = "bare path"

func (b *bencher) bare(ctx context.Context, clients int) (_ Measurement, err error) {
	m := Measurement{Workload: bareName, Clients: clients, WarmupSeconds: b.Warmup.Seconds()}
	dir, remove, err := b.folder()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	platform.Tune(b.Durability == "always") // as the platform it is compared with
	server, err := local.Start(local.Options{Dir: dir, SyncAlways: b.Durability == "always"})
	if err != nil {
		return m, err
	}
	defer server.Stop()
	asking, answering, err := barePair(ctx, server)
	if err != nil {
		return m, err
	}
	defer asking.Close()
	defer answering.Close()
	stop, err := serveBare(ctx, answering)
	if err != nil {
		return m, err
	}
	senders := make([]sender, clients)
	for i := range senders {
		senders[i] = bareSender(asking)
	}
	rec := &recorder{}
	l := b.load()
	stopShowing := b.progress.show(label(bareName, clients), l, rec)
	before := ownCPU()
	l.run(ctx, rec, senders)
	used := ownCPU() - before
	stopShowing()
	if err := errors.Join(context.Cause(ctx), stop()); err != nil {
		return m, err
	}
	m.read(rec.tally())
	n := rec.answered.Load()
	m.Cost = &Cost{Requests: n, CPU: map[string]float64{bareName: microseconds(used) / float64(max(1, n))}}
	return m, nil
}

// barePair is a connection for each side, as gateway and executor have one each.
func barePair(ctx context.Context, server *local.Server) (asking, answering *bus.Bus, err error) {
	cfg := bus.Config{InProcess: server, MaxBytes: 8 << 30, Replicas: 1, CreateLayout: true, Name: "bench asking"}
	if asking, err = bus.Connect(ctx, cfg); err != nil {
		return nil, nil, err
	}
	cfg.CreateLayout, cfg.Name = false, "bench answering"
	if answering, err = bus.Connect(ctx, cfg); err != nil {
		asking.Close()
		return nil, nil, err
	}
	return asking, answering, nil
}

const bareTenant = protocol.TenantID("bench")

// bareSender asks for one execution after another.
func bareSender(b *bus.Bus) sender {
	order := threeStep(nil)
	request := protocol.Requested{
		WorkflowName: "three-step", SpecHash: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
		Spec: protocol.VerbatimOf([]byte(order.workflow)), Input: protocol.RawObject(json.RawMessage(order.input)), MaxIterations: 25,
	}
	return func(ctx context.Context) outcome {
		return outcome{bareName, askBare(ctx, b, request)}
	}
}

func askBare(ctx context.Context, b *bus.Bus, request protocol.Requested) (fault string) {
	subject, reply, release, err := b.Expect()
	if err != nil {
		return err.Error()
	}
	defer release()
	now := time.Now()
	request.Reply, request.Deadline = subject, protocol.At(now.Add(answerPatience))
	ctx, cancel := context.WithTimeout(ctx, answerPatience)
	defer cancel()
	_, err = b.Append(ctx, b.Key(bareTenant, protocol.ExecutionID(typeid.New("exec"))), 0, protocol.Commit{
		ID: typeid.New("cmt"), Events: []protocol.Stamped{{At: protocol.At(now), Event: request}},
	})
	switch {
	case errors.Is(err, bus.ErrLogFull):
		return "the log is full"
	case err != nil:
		return "not appended"
	}
	select {
	case <-reply:
		return ""
	case <-ctx.Done():
		return "no answer within " + answerPatience.String()
	}
}

// bareAtOnce is how many jobs are in hand, as in an executor.
const bareAtOnce = 256

// serveBare takes the jobs of all partitions until it is stopped.
func serveBare(ctx context.Context, b *bus.Bus) (stop func() error, err error) {
	ctx, cancel := context.WithCancel(ctx)
	packed := packedCommit()
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	failed := func(err error) {
		if err == nil || ctx.Err() != nil {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if len(errs) < 3 { // the rest will be alike
			errs = append(errs, err)
		}
	}
	slots := make(chan struct{}, bareAtOnce)
	for p := range b.Partitions() {
		q, err := b.Jobs(ctx, p, bus.JobPolicy{AckWait: 10 * time.Second, MaxDeliver: 10_000})
		if err != nil {
			cancel()
			wg.Wait()
			return nil, err
		}
		wg.Go(func() {
			for ctx.Err() == nil {
				_, err := q.Fetch(bareAtOnce/b.Partitions(), time.Second, func(j *bus.Job) {
					slots <- struct{}{}
					wg.Go(func() {
						defer func() { <-slots }()
						failed(answerBare(context.WithoutCancel(ctx), b, j, packed))
					})
				}, func(_ jetstream.Msg, err error) { failed(err) })
				failed(err)
			}
		})
	}
	return func() error {
		cancel()
		wg.Wait()
		return errors.Join(errs...)
	}, nil
}

// answerBare ends an execution: one commit, the reply, the acknowledgement.
func answerBare(ctx context.Context, b *bus.Bus, j *bus.Job, events []protocol.Stamped) error {
	request, ok := j.Record.Events[0].Event.(protocol.Requested)
	if !ok {
		return errors.New("a job that is no request")
	}
	c := protocol.Commit{ID: typeid.New("cmt"), Events: events}
	var err error
	if c.Body, err = protocol.EncodeCommit(c); err != nil {
		return err
	}
	if _, err := b.Append(ctx, j.Key, j.Record.Sequence, c); err != nil {
		return err
	}
	return errors.Join(b.Reply(request.Reply, c.Body), j.Ack())
}

// packedCommit is what three-step commits after its request.
func packedCommit() []protocol.Stamped {
	now := protocol.At(time.Now())
	intent := "refund"
	step := func(e protocol.Event) protocol.Stamped { return protocol.Stamped{At: now, Event: e} }
	object := func(text string) protocol.Object { return protocol.RawObject(json.RawMessage(text)) }
	const answer = `{"result":"refund: Where is my refund for 4711?","execution_path":["ask","pick","answer"],"tokens_used":0,"cost":0}`
	return []protocol.Stamped{
		step(protocol.NodeCompleted{
			Node: "ask", Attempt: 1, Edges: []int{0}, StartedAt: now,
			Delta: object(`{"current_node":["ask"],"execution_path":["ask"],"metadata":{"input_node_id":"ask","input_processed":true}}`),
		}),
		step(protocol.NodeCompleted{
			Node: "pick", Attempt: 1, Edges: []int{1}, StartedAt: now, Intent: &intent,
			Delta: object(`{"current_node":["pick"],"execution_path":["pick"],"intent":"refund"}`),
		}),
		step(protocol.NodeCompleted{
			Node: "answer", Attempt: 1, Edges: []int{}, StartedAt: now,
			Delta: object(`{"current_node":["answer"],"execution_path":["answer"],"final_output":` + answer + `}`),
		}),
		step(protocol.Completed{
			State: object(`{"user_input":"Where is my refund for 4711?","intent":"refund","text_result":"","image_result":{},"db_result":[],"api_result":{},` +
				`"final_output":` + answer + `,"tokens_used":0,"cost":0,"metadata":{"input_node_id":"ask","input_processed":true},"errors":[],` +
				`"execution_path":["ask","pick","answer"],"current_node":["ask","pick","answer"],"outputs":{}}`),
			Totals: protocol.Totals{NodesRun: 3, DurationMS: 2, Cost: "0"},
		}),
	}
}
