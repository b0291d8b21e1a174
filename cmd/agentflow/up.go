package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/agentflow/agentflow/cmd/agentflow/internal/platform"
)

const defaultHTTP = "127.0.0.1:8000"

func newUp(p *process) *cobra.Command {
	var u up
	c := &cobra.Command{
		Use:   "up",
		Short: "Start the whole platform on this machine, until Ctrl-C",
		Long: `Starts the four services in one process, with everything they need, and serves until SIGTERM or Ctrl-C.

The log (NATS) runs in this process, on the data folder. Postgres and Redis are those that DATABASE_URL and REDIS_URL
name; without them, private ones are started in the data folder from the programs on this machine; without programs,
Postgres is downloaded and Redis replaced by a built-in stand-in, which is said out loud. Nothing that is started here
outlives this process.

On a loopback address requests need no key and act for the tenant "dev", and workflows may call servers on this
machine. AUTH_REQUIRED=true, or any other address, demands a key; EGRESS_ALLOW= closes this machine to workflows. The
keys are kept in the data folder and stay the same.

Every variable of the services counts here too: <service> --help lists them. ADMIN_ADDR is the one address for
health, metrics and profiles of all of them, by default a free port on loopback.`,
		Example: `  agentflow up
  agentflow up --data ./data --http 127.0.0.1:0 --json`,
		Args: exactly(),
		RunE: func(c *cobra.Command, _ []string) error { return u.run(c.Context(), p) },
	}
	u.flags(c, p)
	c.Flags().StringVar(&u.http, "http", cmp.Or(p.env("HTTP_ADDR"), defaultHTTP), "address for clients; port 0 stands for any free one (HTTP_ADDR)")
	c.Flags().BoolVar(&u.json, "json", false, "print one line of JSON when ready, and nothing else, on stdout")
	return c
}

// up is how to start a platform.
type up struct {
	data       string
	http       string
	durability string
	json       bool
}

// flags are those that every command has that may start a platform.
func (u *up) flags(c *cobra.Command, p *process) {
	c.Flags().StringVar(&u.data, "data", p.env("AGENTFLOW_DATA"), "data folder (AGENTFLOW_DATA; default "+defaultData+")")
	c.Flags().StringVar(&u.durability, "durability", "interval",
		"when the log is synced to disk: interval (every 100 ms; a crash of the machine may lose that much) or always (before each acknowledgement)")
}

const defaultData = "$XDG_DATA_HOME/agentflow, which is ~/.local/share/agentflow"

// dataFolder is where the platform of this user lives unless something else is said.
func dataFolder(p *process) (string, error) {
	if base := p.env("XDG_DATA_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "agentflow"), nil
	}
	if home := p.env("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "agentflow"), nil
	}
	return "", errors.New("there is no home folder to keep data in: name a folder with --data")
}

// options turn the flags into those of a platform. logLevel counts where LOG_LEVEL is not set.
func (u *up) options(p *process, logLevel string) (platform.Options, error) {
	o := platform.Options{Data: u.data, HTTP: u.http, SyncAlways: u.durability == "always"}
	if u.durability != "always" && u.durability != "interval" {
		return o, &usageError{"agentflow up", fmt.Errorf("--durability is interval or always, not %q", u.durability)}
	}
	var err error
	if o.Data == "" {
		if o.Data, err = dataFolder(p); err != nil {
			return o, err
		}
	}
	if o.Data, err = filepath.Abs(o.Data); err != nil {
		return o, fmt.Errorf("data folder: %w", err)
	}
	// Defaults stand first: of two entries for a name the later counts.
	o.Environ = append([]string{"LOG_LEVEL=" + logLevel, "LOG_FORMAT=" + logFormat(p.stderr)}, p.environ...)
	return o, nil
}

// logFormat suits people where people look.
func logFormat(stderr io.Writer) string {
	if file, ok := stderr.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return "console"
		}
	}
	return "json"
}

func (u *up) run(ctx context.Context, p *process) error {
	level := "info"
	if !u.json {
		level = "warn" // people get the summary
	}
	o, err := u.options(p, level)
	if err != nil {
		return err
	}
	platform.Tune(o.SyncAlways)
	err = platform.Run(ctx, o, func(ctx context.Context, info platform.Info) error {
		if err := u.announce(p.stdout, o, info); err != nil {
			return fmt.Errorf("say that the platform is ready: %w", err)
		}
		<-ctx.Done()
		return nil
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // asked to stop before it was ready
	}
	return err
}

func (u *up) announce(w io.Writer, o platform.Options, info platform.Info) error {
	var line bytes.Buffer
	if u.json {
		encoder := json.NewEncoder(&line)
		// URLs have ampersands.
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(info); err != nil { //nolint:gosec // whoever starts the platform is told its keys
			return err
		}
	} else {
		summary(&line, o, info)
	}
	_, err := w.Write(line.Bytes()) // one write: a line is never seen by half
	return err
}

func summary(b *bytes.Buffer, o platform.Options, info platform.Info) {
	redis := info.RedisURL
	if info.StandIn {
		redis += "   (built-in stand-in: there is no redis-server here)"
	}
	access := "   (requests without a key act for this tenant)"
	header := ""
	if info.AuthRequired {
		access, header = "", " -H 'X-API-Key: "+info.APIKey+"'"
	}
	fmt.Fprintf(b, `AgentFlow is up.

  API        %s   (documentation: %[1]s/docs)
  tenant     %s%s
  API key    %s
  admin key  %s
  NATS       %s
  Postgres   %s
  Redis      %s
  admin      http://%s   (health, metrics)
  data       %s

  curl -s %[1]s/workflows/execute -H 'Content-Type: application/json'%s \
    -d '{"workflow":{"start_node":"ask","nodes":[{"id":"ask","type":"input"},{"id":"answer","type":"aggregator","metadata":{"strategy":"template","template":"Hello, {user_input}!"}}],"edges":[{"from":"ask","to":"answer"}]},"initial_state":{"user_input":"world"}}'

Ctrl-C stops it.
`, info.URL, info.Tenant, access, info.APIKey, info.AdminKey, info.NATSURL, info.DatabaseURL, redis, info.AdminAddr, o.Data, header)
}
