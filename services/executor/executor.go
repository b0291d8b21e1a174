// Package executor is the service that runs executions. It alone calls the outside world.
package executor

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/limits"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/typeid"
	"github.com/agentflow/agentflow/services/executor/internal/engine"
	"github.com/agentflow/agentflow/services/executor/internal/source"
)

// Config is everything the executor reads from the environment.
type Config struct {
	daemon.Common
	Bus    bus.Config
	Limits limits.Config

	Concurrency int           `env:"EXECUTOR_CONCURRENCY" envDefault:"256" check:"min=1,max=100000" help:"executions that run at a time"`
	AckWait     time.Duration `env:"EXECUTOR_ACK_WAIT_SECONDS" envDefault:"10" check:"min=1" help:"silence after which another executor takes an execution over, in seconds; the same for all executors"`
	Takeovers   int           `env:"EXECUTOR_MAX_TAKEOVERS" envDefault:"5" check:"min=1" help:"executors that may die over one execution, without any progress, before it fails with DELIVERY_EXHAUSTED"`
	NodeTimeout time.Duration `env:"NODE_TIMEOUT_SECONDS" envDefault:"60" check:"min=1" help:"time of a node that names no timeout_seconds, over all its attempts, in seconds"`
	MaxState    int           `env:"EXECUTION_STATE_MAX_BYTES" envDefault:"16777216" check:"min=65536,max=50331648" help:"bytes that the values of one execution may take together; beyond them it fails with STATE_TOO_LARGE"`
	Drain       time.Duration `env:"EXECUTOR_DRAIN_SECONDS" envDefault:"5" check:"min=0" help:"time that running nodes get when the executor stops, in seconds; then their executions go to another one"`

	SecretsAllow     string `env:"SECRETS_ALLOW" help:"environment variables that every tenant's sources may name, comma-separated, * at the end of a name; default: the well-known provider keys and AGENTFLOW_SECRET_*"`
	EgressAllow      string `env:"EGRESS_ALLOW" empty:"keep" help:"private networks (CIDR) and host names that nodes may call, comma-separated"`
	OpenAIBaseURL    string `env:"OPENAI_BASE_URL" check:"url=http https" help:"address of the OpenAI API, when it is not the public one"`
	GroqBaseURL      string `env:"GROQ_BASE_URL" check:"url=http https" help:"address of the Groq API"`
	AnthropicBaseURL string `env:"ANTHROPIC_BASE_URL" check:"url=http https" help:"address of the Anthropic API"`
	GeminiBaseURL    string `env:"GOOGLE_GEMINI_BASE_URL" check:"url=http https" help:"address of the Gemini API"`
	OllamaBaseURL    string `env:"OLLAMA_BASE_URL" check:"url=http https" help:"address of an Ollama server"`
}

// Defaults gives the service its own admin port, so that all four run on one machine.
func (Config) Defaults() map[string]string { return map[string]string{"ADMIN_ADDR": "127.0.0.1:9092"} }

// Validate checks what tags cannot.
func (c Config) Validate() []error {
	var problems []error
	secrets, hosts := source.CheckLists(c.SecretsAllow, c.EgressAllow)
	if secrets != nil {
		problems = append(problems, &daemon.Problem{Variable: "SECRETS_ALLOW", Rule: secrets.Error()})
	}
	if hosts != nil {
		problems = append(problems, &daemon.Problem{Variable: "EGRESS_ALLOW", Rule: hosts.Error()})
	}
	return problems
}

// Main is the executor as a process of its own: it connects to NATS and runs.
func Main(ctx context.Context, rt *daemon.Runtime, cfg Config) error {
	cfg.Bus.Name, cfg.Bus.Log, cfg.Bus.Tracer = rt.Name, rt.Log, rt.Tracer
	b, err := bus.Connect(ctx, cfg.Bus)
	if err != nil {
		return err
	}
	defer b.Close()
	rt.Health.Register("nats", true, b.Ping)
	return Run(ctx, rt, b, cfg)
}

// Run takes and runs executions until ctx ends, and then until they are done or handed over.
func Run(ctx context.Context, rt *daemon.Runtime, b *bus.Bus, cfg Config) error {
	sources, err := source.New(source.Config{
		SecretsAllow: cfg.SecretsAllow, EgressAllow: cfg.EgressAllow,
		OpenAIBaseURL: cfg.OpenAIBaseURL, GroqBaseURL: cfg.GroqBaseURL, AnthropicBaseURL: cfg.AnthropicBaseURL,
		GeminiBaseURL: cfg.GeminiBaseURL, OllamaBaseURL: cfg.OllamaBaseURL,
		Logger: rt.Log, Objects: objects{b}, Tracer: rt.Tracer,
	})
	if err != nil {
		return err
	}
	limiter := limits.NewClient(b, cfg.Limits, rt.Log, rt.Metrics)
	rt.Health.Register("limiter", false, limiter.Check)
	parts := engine.Parts{Bus: b, Outside: sources, Queue: limits.NewQueue(limiter), Limiter: limiter, Mask: sources.Mask, Log: rt.Log}
	if rt.Reporting() {
		parts.Reports = rt
	}
	eng := engine.New(engine.Config{
		Name: name(), Concurrency: cfg.Concurrency, AckWait: cfg.AckWait, Takeovers: cfg.Takeovers,
		NodeTimeout: cfg.NodeTimeout, Drain: cfg.Drain, MaxState: cfg.MaxState,
	}, parts)
	for _, c := range eng.Collectors() {
		if err := rt.Metrics.Register(c); err != nil {
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	calls, err := b.Serve("executor", daemon.Version(), 16)
	if err != nil {
		return err
	}
	if err := bus.Handle(calls, protocol.TestSource, testSource(sources)); err != nil {
		return err
	}

	g := rt.Group()
	defer g.Close(ctx)
	g.Door("sources", func(context.Context) error { return sources.Close() })
	g.Door("limiter client", limiter.Close)
	g.Door("calls", func(context.Context) error { return calls.Stop() })
	g.Add(daemon.Part{Name: "engine", Run: eng.Run})
	return g.Run(ctx)
}

// name tells executors apart in events: the host, and what makes it unique on it.
func name() string {
	host, err := os.Hostname()
	if err != nil {
		host = "executor"
	}
	return host + "/" + typeid.New("x")
}

// objects keeps large binary values of nodes in the platform's object store.
type objects struct{ bus *bus.Bus }

func (o objects) Put(ctx context.Context, tenant string, data []byte, _ string) (string, error) {
	return o.bus.PutObject(ctx, protocol.TenantID(tenant), data)
}

func testSource(s *source.Sources) func(context.Context, protocol.TestSourceRequest) (protocol.TestSourceResult, error) {
	return func(ctx context.Context, req protocol.TestSourceRequest) (protocol.TestSourceResult, error) {
		if err := req.Tenant.Check(); err != nil {
			return protocol.TestSourceResult{}, err
		}
		ctx, cancel := context.WithTimeout(ctx, protocol.TestSourceTimeout)
		defer cancel()
		r := s.Test(ctx, source.Caller{Tenant: string(req.Tenant), Node: "test"}, req.Source)
		return protocol.TestSourceResult{Connected: r.Connected, Message: r.Message, Stage: r.Stage}, nil
	}
}
