package deploy

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/cli"
	"github.com/compose-spec/compose-go/v2/types"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/test/fleet"
	"github.com/agentflow/agentflow/test/platform"
	"github.com/agentflow/agentflow/test/process"
)

// compose reads docker-compose.yml as `docker compose` does, without the settings of this machine.
func compose(t *testing.T, profiles ...string) *types.Project {
	t.Helper()
	root, err := process.Workspace()
	require.NoError(t, err)
	options, err := cli.NewProjectOptions([]string{filepath.Join(root, "docker-compose.yml")},
		cli.WithProfiles(profiles), cli.WithResolvedPaths(true), cli.WithName("agentflow"))
	require.NoError(t, err)
	project, err := options.LoadProject(t.Context())
	require.NoError(t, err)
	return project
}

// ours are the services that are built from this repository.
var ours = []string{"credentials", "migrate", "limiter", "catalog", "executor", "gateway"}

// TestComposeRules: what every container must be, whoever made its image.
func TestComposeRules(t *testing.T) {
	project := compose(t, "observability")
	require.Len(t, project.Services, len(ours)+6)
	for name, s := range project.Services {
		t.Run(name, func(t *testing.T) {
			require.NotContains(t, s.Image, ":latest")
			require.Contains(t, s.Image, ":", "every image has a version")
			require.Contains(t, s.SecurityOpt, "no-new-privileges:true")
			require.NotNil(t, s.Deploy)
			require.NotNil(t, s.Deploy.Resources.Limits)
			require.Positive(t, s.Deploy.Resources.Limits.MemoryBytes)
			require.Positive(t, s.Deploy.Resources.Limits.NanoCPUs)
			require.False(t, s.Privileged)
			if slices.Contains(ours, name) || name == "nats" || name == "redis" {
				require.True(t, s.ReadOnly)
				require.Equal(t, []string{"ALL"}, s.CapDrop)
				require.NotEmpty(t, s.User)
			}
			if name != "credentials" && name != "migrate" && len(s.Profiles) == 0 {
				require.NotNil(t, s.HealthCheck, "others wait for it")
			}
			for secret := range s.Environment {
				for _, word := range []string{"PASSWORD", "DATABASE_URL", "REDIS_URL", "ADMIN_KEY"} {
					require.False(t, strings.HasSuffix(secret, word), "%s: a secret comes in a file", secret)
				}
			}
		})
	}
	for _, name := range []string{"limiter", "catalog", "executor", "gateway"} {
		s := project.Services[name]
		require.Equal(t, types.HealthCheckTest{"CMD", "/service", "healthcheck"}, s.HealthCheck.Test)
		require.Equal(t, "65532:65532", s.User)
		require.Equal(t, name, *s.Build.Args["SERVICE"])
	}
	// Each store has one door.
	for network, members := range map[string][]string{"database": {"catalog", "migrate", "postgres"}, "counters": {"limiter", "redis"}} {
		var found []string
		for name, s := range project.Services {
			if _, in := s.Networks[network]; in {
				found = append(found, name)
			}
		}
		slices.Sort(found)
		require.Equal(t, members, found, network)
		require.True(t, project.Networks[network].Internal)
	}
	require.True(t, project.Networks["bus"].Internal)
	// Keys of one service are mounted into no other.
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			if owner, ok := strings.CutPrefix(v.Source, "keys-"); ok && name != "credentials" {
				require.Equal(t, name, owner)
				require.True(t, v.ReadOnly)
			}
		}
	}
}

// TestComposeUp starts what the compose file declares: the same binaries with its commands, its environment and its files,
// in its order. Only ports and hosts are others, since all of it runs on this machine; Postgres is a cluster that is
// there already, with the login that the file's variables would make.
func TestComposeUp(t *testing.T) {
	m := newMachine(t, compose(t))
	order := m.order()
	require.Equal(t, "credentials", order[0])
	for _, name := range order {
		m.up(name)
	}
	key, err := os.ReadFile(m.path("gateway", "/run/agentflow/admin-key"))
	require.NoError(t, err)
	p := platform.Attach(platform.Ready{URL: "http://" + m.addr("gateway", "8000"), AdminKey: strings.TrimSpace(string(key))})
	require.Equal(t, http.StatusUnauthorized, p.Call(t, http.MethodGet, "/workflows", nil).Status)
	admin := p.As(p.Ready().AdminKey)
	a := admin.Call(t, http.MethodPost, "/tenants", map[string]any{"id": "acme", "name": "Acme"})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	a = admin.Call(t, http.MethodPost, "/keys", map[string]any{"name": "all", "tenant_id": "acme"})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	acme := p.As(a.JSON(t)["key"].(string))
	platform.Await(t, "the key", func() bool { return acme.Call(t, http.MethodGet, "/workflows", nil).Status == http.StatusOK })
	var hello any
	raw, err := os.ReadFile(filepath.Join(m.root, "examples", "hello.json"))
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(raw, &hello))
	a = acme.Call(t, http.MethodPost, "/workflows/execute", map[string]any{"workflow": hello, "initial_state": map[string]any{"user_input": "you"}})
	require.Equal(t, http.StatusOK, a.Status, "%s", a.Body)
	platform.Await(t, "the execution in the tables", func() bool {
		list := acme.Call(t, http.MethodGet, "/executions", nil).JSON(t)
		return list["total"] == 1.0
	})
	for _, name := range []string{"limiter", "catalog", "executor", "gateway"} {
		require.NoError(t, m.healthcheck(name), "the container's own health check")
	}
}

// machine runs the services of a compose file as processes.
type machine struct {
	t       *testing.T
	project *types.Project
	root    string // work tree
	dir     string // volumes and the roots of the containers
	ports   map[string]int
	running map[string]*fleet.Process
}

func newMachine(t *testing.T, project *types.Project) *machine {
	t.Helper()
	root, err := process.Workspace()
	require.NoError(t, err)
	m := &machine{t: t, project: project, root: root, dir: t.TempDir(), ports: map[string]int{}, running: map[string]*fleet.Process{}}
	for name, s := range project.Services {
		for _, v := range s.Volumes {
			source := v.Source
			if v.Type == types.VolumeTypeVolume {
				source = filepath.Join(m.dir, "volumes", v.Source)
				require.NoError(t, os.MkdirAll(source, 0o755))
			}
			target := m.path(name, v.Target)
			require.NoError(t, os.MkdirAll(filepath.Dir(target), 0o755))
			require.NoError(t, os.Symlink(source, target))
		}
	}
	return m
}

// path is where a path inside a container is on this machine.
func (m *machine) path(service, inside string) string {
	return filepath.Join(m.dir, "containers", service, inside)
}

// addr is where a port of a container is on this machine.
func (m *machine) addr(service, port string) string {
	key := service + ":" + port
	if m.ports[key] == 0 {
		free, err := local.FreePort(m.t.Context())
		require.NoError(m.t, err)
		m.ports[key] = free
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.ports[key]))
}

// order is that of depends_on.
func (m *machine) order() []string {
	var out []string
	require.NoError(m.t, m.project.ForEachService(m.project.ServiceNames(), func(name string, _ *types.ServiceConfig) error {
		out = append(out, name)
		return nil
	}))
	return out
}

// rewrite puts this machine's hosts, ports and paths into a text of a service.
func (m *machine) rewrite(service, text string) string {
	for _, store := range []struct{ name, port string }{{"nats", "4222"}, {"postgres", "5432"}, {"redis", "6379"}} {
		text = strings.ReplaceAll(text, store.name+":"+store.port, m.addr(store.name, store.port))
	}
	for _, port := range []string{"9090", "8000"} {
		text = strings.ReplaceAll(text, "0.0.0.0:"+port, m.addr(service, port))
	}
	for _, v := range m.project.Services[service].Volumes {
		if before, after, ok := strings.Cut(text, v.Target); ok && (before == "" || strings.HasSuffix(before, "=")) {
			return before + m.path(service, v.Target) + after
		}
		// A folder above several volumes.
		if before, after, ok := strings.Cut(text, filepath.Dir(v.Target)); ok && filepath.Dir(v.Target) != "/" && after == "" {
			return before + m.path(service, filepath.Dir(v.Target))
		}
	}
	return text
}

func (m *machine) up(name string) {
	m.t.Helper()
	s := m.project.Services[name]
	var env, args []string
	for key, value := range s.Environment {
		if value != nil {
			env = append(env, key+"="+m.rewrite(name, *value))
		}
	}
	for _, arg := range s.Command {
		args = append(args, m.rewrite(name, arg))
	}
	c := fleet.Command{Name: name, Dir: m.dir, Env: env, Health: "/health/ready"}
	switch name {
	case "postgres":
		m.postgres()
		return
	case "redis":
		m.redis(args)
		return
	case "credentials":
		c.Args = []string{m.build("./deploy/credentials")}
	case "migrate":
		c.Args = []string{m.build("./cmd/agentflow")}
	case "nats":
		bin, err := fleet.Binaries()
		require.NoError(m.t, err)
		c.Args, c.Dir, c.Health = []string{filepath.Join(bin, "nats-server")}, m.path(name, s.WorkingDir), "/healthz"
		_, port, err := net.SplitHostPort(m.addr(name, "4222"))
		require.NoError(m.t, err)
		_, monitor, err := net.SplitHostPort(m.addr(name, "8222"))
		require.NoError(m.t, err)
		args = append(args, "-a", "127.0.0.1", "-p", port, "-m", monitor)
		c.Admin = "http://" + m.addr(name, "8222")
	default:
		bin, err := fleet.Binaries()
		require.NoError(m.t, err)
		c.Args, c.Admin = []string{filepath.Join(bin, name)}, "http://"+m.addr(name, "9090")
	}
	if name == "credentials" {
		// Users other than ours are the container's business.
		args = slices.DeleteFunc(args, func(a string) bool { return strings.HasPrefix(a, "--owner=") })
	}
	c.Args = append(c.Args, args...)
	p := fleet.NewProcess(c)
	m.running[name] = p
	if s.HealthCheck == nil {
		require.NoError(m.t, p.Run(m.t.Context()), name)
		return
	}
	m.t.Cleanup(func() {
		if m.t.Failed() {
			m.t.Logf("%s:\n%s", name, p.Log())
		}
		if name == "nats" {
			require.NoError(m.t, p.Kill())
			return
		}
		require.NoError(m.t, p.Stop())
	})
	require.NoError(m.t, p.Up(m.t.Context()), name)
}

func (m *machine) build(pkg string) string {
	m.t.Helper()
	path, err := fleet.Build(pkg)
	require.NoError(m.t, err)
	return path
}

// healthcheck runs the health check of the compose file: the binary itself, with the container's environment.
func (m *machine) healthcheck(name string) error {
	s := m.project.Services[name]
	bin, err := fleet.Binaries()
	if err != nil {
		return err
	}
	var env []string
	for key, value := range s.Environment {
		if value != nil {
			env = append(env, key+"="+m.rewrite(name, *value))
		}
	}
	args := append([]string{filepath.Join(bin, name)}, s.HealthCheck.Test[2:]...)
	return fleet.NewProcess(fleet.Command{Name: name + " healthcheck", Dir: m.dir, Args: args, Env: env}).Run(m.t.Context())
}

// postgres is a cluster with the login and the database that the image makes of POSTGRES_USER and the password's file.
func (m *machine) postgres() {
	t, s := m.t, m.project.Services["postgres"]
	password, err := os.ReadFile(m.rewrite("postgres", *s.Environment["POSTGRES_PASSWORD_FILE"]))
	require.NoError(t, err)
	server, err := local.StartPostgres(t.Context(), local.PostgresOptions{
		Dir: filepath.Join(m.dir, "postgres"), Fast: true, Template: filepath.Join(os.TempDir(), "agentflow-test-"+strconv.Itoa(os.Geteuid()), "template"),
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, server.Stop(context.WithoutCancel(t.Context()))) })
	owner(t, server.URL(), *s.Environment["POSTGRES_USER"], strings.TrimSpace(string(password)), *s.Environment["POSTGRES_DB"])
	forward(t, m.addr("postgres", "5432"), fmt.Sprintf("127.0.0.1:%d", server.Port()))
}

// redis runs redis-server with the command of the file.
func (m *machine) redis(args []string) {
	_, port, err := net.SplitHostPort(m.addr("redis", "6379"))
	require.NoError(m.t, err)
	p := fleet.NewProcess(fleet.Command{Name: "redis", Dir: m.dir, Args: append(args, "--port", port, "--bind", "127.0.0.1")})
	m.running["redis"] = p
	m.t.Cleanup(func() { require.NoError(m.t, p.Kill()) })
	require.NoError(m.t, p.Begin())
	platform.Await(m.t, "redis", func() bool {
		conn, err := net.Dial("tcp", m.addr("redis", "6379"))
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}
