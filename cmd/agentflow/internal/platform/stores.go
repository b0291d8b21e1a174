package platform

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/agentflow/agentflow/db"
	natslocal "github.com/agentflow/agentflow/pkg/bus/local"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/services/catalog"
)

// stores are NATS, Postgres and Redis. Of the last two, nil is one that somebody else runs.
type stores struct {
	nats     *natslocal.Server
	postgres *local.Postgres
	redis    *local.Redis

	databaseURL string // Postgres, as the owner if we know one
	serviceURL  string // with the login of the catalog service
	redisURL    string
	log         *zap.Logger
}

// open brings all three up side by side. On an error, what did come up stays for doors to close.
func (s *stores) open(ctx context.Context, p *platform) error {
	s.log = p.rt.Log
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, open := range []func(context.Context, *platform) error{s.openNATS, s.openPostgres, s.openRedis} {
		wg.Go(func() {
			if err := open(ctx, p); err != nil {
				mu.Lock()
				defer mu.Unlock()
				if ctx.Err() == nil { // what fails after the first, fails because of it
					errs = append(errs, err)
				}
				cancel(err)
			}
		})
	}
	wg.Wait()
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	return context.Cause(ctx) // asked to stop meanwhile
}

// doors hands the stores to the group, which closes them in the reverse of this order.
func (s *stores) doors(g *daemon.Group) {
	if s.redis != nil {
		g.Door("redis", s.redis.Stop)
		if !s.redis.StandIn() {
			g.Add(s.watch("redis", s.redis))
		}
	}
	if s.postgres != nil {
		g.Door("postgres", s.postgres.Stop)
		g.Add(s.watch("postgres", s.postgres))
	}
	if s.nats != nil {
		g.Door("nats", func(context.Context) error {
			s.nats.Stop()
			return nil
		})
	}
}

// openNATS starts the server and lays out the streams.
func (s *stores) openNATS(ctx context.Context, p *platform) error {
	dir := natsFolder(p.options.Data)
	port := rememberedPort(dir)
	if port == 0 || !free(ctx, port) {
		port = -1 // any
	}
	var err error
	s.nats, err = natslocal.Start(natslocal.Options{
		Dir: dir, Addr: loopback, Port: port, SyncAlways: p.options.SyncAlways, Log: p.rt.Log.Named("nats"),
	})
	if err != nil {
		return err
	}
	rememberPort(p.rt.Log, dir, s.nats.ClientURL())
	b, err := p.connect(ctx, p.rt, true)
	if err != nil {
		return err
	}
	b.Close()
	return nil
}

func natsFolder(data string) string { return filepath.Join(data, "nats") }

// The port is remembered so that what was told the address once finds the platform again. It is only a favour.
const portFile = "port"

func rememberedPort(dir string) int {
	text, err := os.ReadFile(filepath.Join(dir, portFile))
	if err != nil {
		return 0
	}
	port, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || port < 1 || port > 65535 {
		return 0
	}
	return port
}

func rememberPort(log *zap.Logger, dir, url string) {
	port := url[strings.LastIndexByte(url, ':')+1:]
	if err := os.WriteFile(filepath.Join(dir, portFile), []byte(port+"\n"), 0o600); err != nil {
		log.Warn("NATS will have another port next time", zap.Error(err))
	}
}

// openPostgres starts a private cluster unless the environment names one, and brings its tables up to date.
func (s *stores) openPostgres(ctx context.Context, p *platform) error {
	url := p.config.urls.Database
	if url == "" {
		var err error
		s.postgres, err = local.StartPostgres(ctx, privatePostgres(p.options.Data, p.rt.Log))
		if err != nil {
			return err
		}
		url = s.postgres.URL()
	}
	s.databaseURL = url
	var err error
	s.serviceURL, err = prepareDatabase(ctx, url, p.config.catalog)
	return err
}

// prepareDatabase brings the tables up to date and returns the URL with the login of the catalog service, whom row
// level security binds. A URL with such a login is taken as it is: somebody else sees to the tables then.
func prepareDatabase(ctx context.Context, url string, c catalog.Config) (string, error) {
	owner, err := db.CanBypass(ctx, url)
	if err != nil || !owner {
		return url, err
	}
	if c.Migrate {
		if err := db.Migrate(ctx, url, db.Options{}); err != nil {
			return "", err
		}
	}
	return db.Provision(ctx, url, db.Access{Password: c.ServicePassword})
}

// privatePostgres is how the platform runs a Postgres of its own in a data folder.
func privatePostgres(data string, log *zap.Logger) local.PostgresOptions {
	return local.PostgresOptions{Dir: filepath.Join(data, "postgres"), Log: log, Download: true}
}

// hasPostgres tells whether a data folder holds a private Postgres.
func hasPostgres(data string) bool {
	_, err := os.Stat(filepath.Join(data, "postgres", "data", "PG_VERSION"))
	return !errors.Is(err, fs.ErrNotExist)
}

// openRedis starts a private server unless the environment names one; without a program for it, the stand-in, which
// is said out loud.
func (s *stores) openRedis(ctx context.Context, p *platform) error {
	if s.redisURL = p.config.urls.Redis; s.redisURL != "" {
		return nil
	}
	var err error
	s.redis, err = local.StartRedis(ctx, local.RedisOptions{Dir: filepath.Join(p.options.Data, "redis"), Log: p.rt.Log})
	if errors.Is(err, local.ErrNoRedis) {
		p.rt.Log.Warn("there is no redis-server on this machine: limits run on the built-in stand-in, which is slower; " +
			"install redis-server, or set REDIS_URL")
		s.redis, err = local.StartRedisStandIn(ctx)
	}
	if err != nil {
		return err
	}
	s.redisURL = s.redis.URL()
	return nil
}

// server is a private store.
type server interface {
	Start(ctx context.Context) error
	Exited() <-chan struct{}
}

// watch brings a private store back when it dies: the services wait for it, and would wait for ever.
func (s *stores) watch(name string, server server) daemon.Part {
	return daemon.Part{Name: name + " watch", Run: func(ctx context.Context) error {
		for {
			select {
			case <-ctx.Done():
				return nil
			case <-server.Exited():
			}
			s.log.Warn("a private server has ended; starting it again", zap.String("server", name))
			if err := s.restart(ctx, server); err != nil {
				return fmt.Errorf("bring %s back: %w", name, err)
			}
		}
	}}
}

// restart tries until ctx ends, less and less often.
func (s *stores) restart(ctx context.Context, server server) error {
	const longest = 10 * time.Second
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, longest) {
		err := server.Start(ctx)
		if err == nil {
			return nil
		}
		var locked *local.LockedError
		if errors.As(err, &locked) {
			return err // somebody has taken the folder, and will not give it back
		}
		s.log.Error("still down", zap.Error(err), zap.Duration("next_try", pause))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}
