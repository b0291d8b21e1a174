// Package catalog is the service that keeps what lasts: tenants, keys, workflows, sources, and the
// history of executions. It alone talks to Postgres.
package catalog

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/db"
	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/catalog/internal/postgres"
	"github.com/agentflow/agentflow/services/catalog/internal/service"
)

// Config is what catalog reads from the environment.
type Config struct {
	daemon.Common
	Bus bus.Config

	DatabaseURL     string        `env:"DATABASE_URL" check:"required" secret:"true" help:"Postgres 14 or newer, postgres://user:password@host:5432/name; the owner of the database, for whom a login without rights is made, or that login itself"`
	ServicePassword string        `env:"DB_SERVICE_PASSWORD" secret:"true" help:"password of the login agentflow_service; empty: derived from the owner's"`
	Migrate         bool          `env:"DB_MIGRATE" envDefault:"true" help:"whether to bring the schema up to date at the start; needs the owner's URL"`
	PoolSize        int           `env:"DB_POOL_SIZE" envDefault:"20" check:"min=1,max=1000" help:"connections to Postgres"`
	PoolOverflow    int           `env:"DB_MAX_OVERFLOW" envDefault:"10" check:"min=0,max=1000" help:"connections more when those are in use"`
	PoolTimeout     time.Duration `env:"DB_POOL_TIMEOUT" envDefault:"30" check:"min=100ms,max=10m" help:"how long to wait for a free connection"`
	PoolRecycle     time.Duration `env:"DB_POOL_RECYCLE" envDefault:"3600" check:"min=1s,max=24h" help:"age at which a connection is replaced"`

	HotLogGrace   time.Duration `env:"HOT_LOG_GRACE_SECONDS" envDefault:"300" check:"min=0s,max=24h" help:"how long finished executions stay in the execution log before the archive alone has them"`
	TrimEvery     time.Duration `env:"HOT_LOG_TRIM_SECONDS" envDefault:"5" check:"min=100ms,max=1h" help:"how often the execution log is trimmed"`
	RetentionDays int           `env:"EXECUTION_RETENTION_DAYS" envDefault:"0" check:"min=0,max=36500" help:"days after their end that executions and their events are deleted; 0: never"`
}

// Validate checks what tags cannot.
func (c Config) Validate() []error {
	if c.DatabaseURL == "" {
		return nil // said already
	}
	if _, err := db.Normalize(c.DatabaseURL); err != nil {
		return []error{&daemon.Problem{Variable: "DATABASE_URL", Rule: err.Error()}}
	}
	return nil
}

// minConnections is what commands, queries and the readers of all streams need to get on with
// each other.
const minConnections = 2

// Main is catalog as a process of its own: it connects to NATS and runs.
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

// Run serves until ctx ends, and then until the commands and queries in hand are done.
func Run(ctx context.Context, rt *daemon.Runtime, b *bus.Bus, cfg Config) error {
	serviceURL, err := login(ctx, rt, cfg)
	if err != nil {
		return err
	}
	store, err := postgres.Open(ctx, postgres.Config{
		URL: serviceURL, PoolSize: max(cfg.PoolSize, minConnections), Overflow: cfg.PoolOverflow,
		PoolTimeout: cfg.PoolTimeout, Recycle: cfg.PoolRecycle, Log: rt.Log,
	})
	if err != nil {
		return err
	}
	g := rt.Group()
	defer g.Close(ctx)
	g.Door("postgres", func(context.Context) error {
		store.Close()
		return nil
	})
	if err := store.Ready(ctx); err != nil && !errors.Is(err, postgres.ErrUnavailable) {
		return fmt.Errorf("the tables are not there, or not for this login (run agentflow migrate up with the owner's URL): %w", err)
	}
	rt.Metrics.MustRegister(store.Collector())
	s := service.New(store, b, rt.Log, rt.Metrics)
	projector := service.NewProjector(s)
	janitor := &service.Janitor{
		Service: s, Grace: cfg.HotLogGrace, Every: cfg.TrimEvery, Retention: time.Duration(cfg.RetentionDays) * 24 * time.Hour,
	}
	rt.Health.Register("postgres", true, store.Ping)
	rt.Health.Register("projection", true, projector.Health)

	g.Add(daemon.Part{Name: "projector", Run: func(ctx context.Context) error {
		store.Lead(ctx, takeover, func(ctx context.Context) { lead(ctx, projector, janitor) })
		return nil
	}})
	g.Add(daemon.Part{Name: "queries", Run: func(ctx context.Context) error { return answer(ctx, b, s, cfg) }})
	g.Add(daemon.Part{Name: "commands", Run: func(ctx context.Context) error { return s.Commands(ctx, cfg.PoolSize) }})
	return g.Run(ctx)
}

// takeover is how often a process that does not lead tries to.
const takeover = 500 * time.Millisecond

// lead does what one process does for all.
func lead(ctx context.Context, p *service.Projector, j *service.Janitor) {
	j.Prepare(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		j.Run(ctx)
	}()
	p.Run(ctx)
	<-done
}

// answer serves the calls. More are taken than there are connections: they wait for one.
func answer(ctx context.Context, b *bus.Bus, s *service.Service, cfg Config) error {
	svc, err := b.Serve("catalog", announced(daemon.Version()), 4*(cfg.PoolSize+cfg.PoolOverflow))
	if err != nil {
		return err
	}
	if err := s.Serve(svc); err != nil { //nolint:contextcheck // a call brings a context of its own
		return errors.Join(err, svc.Stop())
	}
	<-ctx.Done()
	return svc.Stop()
}

var numbered = regexp.MustCompile(`^[0-9]+\.[0-9]+\.[0-9]+`)

// announced is a version as the micro protocol demands it: a build that nobody numbered is 0.0.0.
func announced(version string) string {
	version = strings.TrimPrefix(version, "v")
	if numbered.MatchString(version) {
		return version
	}
	return "0.0.0-" + version
}

// login finds the URL that the service works with. An owner's URL is good for making the schema
// and the service's login, not for work: row level security does not bind owners as it should.
func login(ctx context.Context, rt *daemon.Runtime, cfg Config) (string, error) {
	if err := reach(ctx, rt, cfg.DatabaseURL); err != nil {
		return "", err
	}
	owner, err := db.CanBypass(ctx, cfg.DatabaseURL)
	if err != nil {
		return "", err
	}
	if !owner {
		return cfg.DatabaseURL, nil
	}
	if cfg.Migrate {
		if err := db.Migrate(ctx, cfg.DatabaseURL, db.Options{Log: lineLog{rt.Log}}); err != nil {
			return "", err
		}
	}
	serviceURL, err := db.Provision(ctx, cfg.DatabaseURL, db.Access{Password: cfg.ServicePassword})
	if err != nil {
		return "", err
	}
	rt.Log.Info("working with a login of its own", zap.String("login", db.ServiceRole))
	return serviceURL, nil
}

// reach waits until Postgres answers, however long it takes: it may be starting.
func reach(ctx context.Context, rt *daemon.Runtime, url string) error {
	for delay := 100 * time.Millisecond; ; delay = min(2*delay, 5*time.Second) {
		err := db.Ping(ctx, url)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for postgres: %w", err)
		}
		rt.Log.Warn("postgres does not answer yet", zap.Error(err))
		select {
		case <-ctx.Done():
		case <-time.After(delay):
		}
	}
}

// lineLog writes each line of the migrations' output as a log entry.
type lineLog struct{ log *zap.Logger }

func (l lineLog) Write(p []byte) (int, error) {
	l.log.Info("migration", zap.ByteString("line", p[:max(0, len(p)-1)]))
	return len(p), nil
}
