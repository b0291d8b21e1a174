package platform

import (
	"cmp"
	"errors"
	"net"
	"strings"

	"github.com/agentflow/agentflow/pkg/bus"
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/catalog"
	"github.com/agentflow/agentflow/services/executor"
	"github.com/agentflow/agentflow/services/gateway"
	"github.com/agentflow/agentflow/services/limiter"
)

// config is the configuration of everything in this process.
type config struct {
	environ  environ
	common   daemon.Common
	bus      bus.Config
	urls     storeURLs
	gateway  gateway.Config
	catalog  catalog.Config
	executor executor.Config
	limiter  limiter.Config
	secrets  []string
}

// storeURLs name stores that somebody else runs.
type storeURLs struct {
	Database string `env:"DATABASE_URL" secret:"true" help:"Postgres, with a login that may create tables and roles; empty: a private one"`
	Redis    string `env:"REDIS_URL" secret:"true" help:"Redis; empty: a private one"`
}

// natsVariables are about servers elsewhere; ours is in this process.
var natsVariables = []string{
	"NATS_URL", "NATS_USER", "NATS_PASSWORD", "NATS_CREDS_FILE", "NATS_NKEY_FILE", "NATS_CA_FILE", "NATS_REPLICAS", "NATS_CREATE_STREAMS",
}

// load reads the configuration before anything is started, so that every mistake is told at once.
func load(o Options, l net.Listener, id *identity) (config, error) {
	env := environ(o.Environ).without(natsVariables...)
	if o.Private {
		env = env.without("DATABASE_URL", "REDIS_URL")
	}
	env = env.orDefault("ADMIN_ADDR", loopback+":0")
	env = env.orDefault("SHUTDOWN_TIMEOUT_SECONDS", "10") // somebody at a terminal waits for it
	if onLoopback(l) {
		env = env.orDefault("AUTH_REQUIRED", "false")
		if !env.has("EGRESS_ALLOW") { // set to nothing, it closes the machine's own addresses
			env = env.with("EGRESS_ALLOW", "127.0.0.0/8,::1,localhost")
		}
	} else {
		env = env.with("AUTH_REQUIRED", "true") // whoever can reach the port is not known
	}
	if env.get("AGENTFLOW_ADMIN_KEY") == "" && env.get("AGENTFLOW_ADMIN_KEY_FILE") == "" {
		env = env.without("AGENTFLOW_ADMIN_KEY").with("AGENTFLOW_ADMIN_KEY", id.AdminKey)
	}

	c := config{environ: env}
	urls, err := daemon.Load[storeURLs](env)
	if err != nil {
		return c, err
	}
	c.urls = urls
	// The addresses of private stores are not known yet; these only have to be well-formed.
	return c.services(cmp.Or(urls.Database, "postgres://localhost/agentflow"), cmp.Or(urls.Redis, "redis://localhost"))
}

// withStores is the configuration once the stores stand.
func (c config) withStores(s stores) (config, error) { return c.services(s.serviceURL, s.redisURL) }

func (c config) services(databaseURL, redisURL string) (config, error) {
	env := c.environ.with("DATABASE_URL", databaseURL).with("REDIS_URL", redisURL)
	var problems problems
	c.common = loaded[struct{ daemon.Common }](env, &problems).Common
	c.gateway = loaded[gateway.Config](env, &problems)
	c.catalog = loaded[catalog.Config](env, &problems)
	c.executor = loaded[executor.Config](env, &problems)
	c.limiter = loaded[limiter.Config](env, &problems)
	c.bus = c.gateway.Bus
	for _, secrets := range [][]string{
		daemon.Secrets(c.gateway), daemon.Secrets(c.catalog), daemon.Secrets(c.executor), daemon.Secrets(c.limiter), daemon.Secrets(c.urls),
	} {
		c.secrets = append(c.secrets, secrets...)
	}
	return c, problems.err()
}

// problems collects what is wrong; the services share variables, and what is wrong is told once.
type problems struct {
	list []*daemon.Problem
	rest error
}

func loaded[C any](env environ, p *problems) C {
	c, err := daemon.Load[C](env)
	var wrong *daemon.ConfigError
	switch {
	case errors.As(err, &wrong):
		for _, problem := range wrong.Problems {
			p.add(problem)
		}
	case err != nil:
		p.rest = errors.Join(p.rest, err)
	}
	return c
}

func (p *problems) add(problem *daemon.Problem) {
	for _, known := range p.list {
		if known.Error() == problem.Error() {
			return
		}
	}
	p.list = append(p.list, problem)
}

func (p *problems) err() error {
	if len(p.list) == 0 {
		return p.rest
	}
	return errors.Join(&daemon.ConfigError{Problems: p.list}, p.rest)
}

// environ is a list of NAME=value; of two entries for a name the later counts.
type environ []string

func (e environ) get(name string) string {
	value := ""
	for _, entry := range e {
		if n, v, _ := strings.Cut(entry, "="); n == name {
			value = v
		}
	}
	return value
}

func (e environ) has(name string) bool {
	for _, entry := range e {
		if strings.HasPrefix(entry, name+"=") {
			return true
		}
	}
	return false
}

// without leaves names out, also where they name a file that holds the value.
func (e environ) without(names ...string) environ {
	drop := make(map[string]bool, 2*len(names))
	for _, name := range names {
		drop[name], drop[name+"_FILE"] = true, true
	}
	kept := make(environ, 0, len(e)+1)
	for _, entry := range e {
		if name, _, _ := strings.Cut(entry, "="); !drop[name] {
			kept = append(kept, entry)
		}
	}
	return kept
}

func (e environ) with(name, value string) environ { return append(e.without(name), name+"="+value) }

// orDefault takes an empty variable for one that is not set.
func (e environ) orDefault(name, value string) environ {
	if e.get(name) != "" {
		return e
	}
	return e.with(name, value)
}
