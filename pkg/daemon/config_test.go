package daemon

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

type storeConfig struct {
	PoolSize int           `env:"DB_POOL_SIZE" envDefault:"20" check:"min=1,max=1000" help:"connections kept open"`
	Overflow int           `env:"DB_MAX_OVERFLOW" envDefault:"10" check:"min=0" help:"connections opened beyond the pool"`
	Timeout  time.Duration `env:"DB_POOL_TIMEOUT" envDefault:"30" check:"min=1s" help:"wait for a connection"`
}

func (c storeConfig) Validate() []error {
	if c.PoolSize < c.Overflow {
		return []error{&Problem{Variable: "DB_MAX_OVERFLOW", Value: strconv.Itoa(c.Overflow), Rule: "must not exceed DB_POOL_SIZE"}}
	}
	return nil
}

type serviceConfig struct {
	Common
	Store    storeConfig
	URL      string   `env:"DATABASE_URL" check:"required,url=postgres postgresql" secret:"true" help:"where Postgres is"`
	Cache    string   `env:"CACHE_URL" check:"url=redis" help:"where Redis is"`
	Egress   []string `env:"EGRESS_ALLOW" envDefault:"127.0.0.0/8,::1" empty:"keep" help:"networks that may be called"`
	CA       string   `env:"CA_FILE" check:"file" help:"certificate authority"`
	Strict   bool     `env:"STRICT" help:"refuse what is odd"`
	Ratio    *float64 `env:"RATIO" check:"min=0,max=1" help:"a share"`
	Mode     string   `env:"MODE" envDefault:"open" check:"oneof=open closed" help:"what to do when the store is away"`
	internal string   //nolint:unused // shows that unexported fields are left alone
}

func (serviceConfig) Defaults() map[string]string {
	return map[string]string{"ADMIN_ADDR": "127.0.0.1:9103"}
}

func (c serviceConfig) Validate() []error {
	if c.Strict && c.Mode == "open" {
		return []error{errors.New("STRICT=true and MODE=open contradict each other")}
	}
	return nil
}

func TestLoadTakesDefaultsAndValues(t *testing.T) {
	t.Parallel()
	cfg, err := Load[serviceConfig]([]string{
		"DATABASE_URL=postgres://db/agentflow",
		"DB_POOL_SIZE=5", "DB_MAX_OVERFLOW=1",
		"DB_POOL_SIZE=7", // the later counts
		"STRICT=", "MODE=", "EGRESS_ALLOW=", "RATIO=0",
		"SHUTDOWN_TIMEOUT_SECONDS=1m30s", "SHUTDOWN_DELAY_SECONDS=2.5",
		"UNRELATED=x", "=odd", "odd",
	})
	require.NoError(t, err)
	require.Equal(t, 7, cfg.Store.PoolSize)
	require.Equal(t, 30*time.Second, cfg.Store.Timeout, "a bare number is seconds")
	require.Equal(t, 90*time.Second, cfg.ShutdownTimeout)
	require.Equal(t, 2500*time.Millisecond, cfg.ShutdownDelay)
	require.Equal(t, "open", cfg.Mode, "an empty variable counts as not set")
	require.False(t, cfg.Strict)
	require.Empty(t, cfg.Egress, "an empty variable that means something is kept")
	require.NotNil(t, cfg.Ratio)
	require.Zero(t, *cfg.Ratio)
	require.Equal(t, "127.0.0.1:9103", cfg.AdminAddr, "the service's own default")
	require.Equal(t, "info", cfg.LogLevel)

	cfg, err = Load[serviceConfig]([]string{"DATABASE_URL=postgres://db/agentflow", "EGRESS_ALLOW=10.0.0.0/8,example.com"})
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.0.0/8", "example.com"}, cfg.Egress)
	require.Nil(t, cfg.Ratio)
}

func TestLoadReportsEveryProblemAtOnce(t *testing.T) {
	t.Parallel()
	_, err := Load[serviceConfig]([]string{
		"LOG_LEVEL=loud", "ADMIN_ADDR=nonsense", "SHUTDOWN_TIMEOUT_SECONDS=-5", "SENTRY_SAMPLE_RATE=NaN",
		"SENTRY_DSN=hunter2-is-no-url",
		"DB_POOL_SIZE=many", "DB_MAX_OVERFLOW=-1", "DB_POOL_TIMEOUT=soon",
		"CACHE_URL=http://user:hunter2@cache", "CA_FILE=/does/not/exist",
		"STRICT=true", "RATIO=1.5",
	})
	var problems *ConfigError
	require.ErrorAs(t, err, &problems)
	require.Equal(t, strings.TrimSpace(`
configuration: 13 problem(s)
  LOG_LEVEL="loud": must be one of debug, info, warn, error; correct it, or leave it out for info
  ADMIN_ADDR="nonsense": must be host:port, such as 127.0.0.1:9090 or :9090; correct it, or leave it out for 127.0.0.1:9103
  SHUTDOWN_TIMEOUT_SECONDS="-5": must be at least 1s; correct it, or leave it out for 25
  SENTRY_DSN="***MASKED***": must be a URL that starts with http:// or https://; correct it, or leave it out
  SENTRY_SAMPLE_RATE="NaN": must be at least 0; correct it, or leave it out
  DB_POOL_SIZE="many": must be a whole number; correct it, or leave it out for 20
  DB_MAX_OVERFLOW="-1": must be at least 0; correct it, or leave it out for 10
  DB_POOL_TIMEOUT="soon": must be a duration such as 1m30s, or a number of seconds; correct it, or leave it out for 30
  DATABASE_URL: is required and not set; set it: where Postgres is
  CACHE_URL="http://user:***MASKED***@cache": must be a URL that starts with redis://; correct it, or leave it out
  CA_FILE="/does/not/exist": must name a readable file; correct it, or leave it out
  RATIO="1.5": must be at most 1; correct it, or leave it out
  STRICT=true and MODE=open contradict each other`), err.Error())
	require.NotContains(t, err.Error(), "hunter2")
}

func TestLoadChecksRulesAcrossFields(t *testing.T) {
	t.Parallel()
	_, err := Load[serviceConfig]([]string{"DATABASE_URL=postgres://db/x", "DB_POOL_SIZE=2", "DB_MAX_OVERFLOW=3"})
	require.EqualError(t, err, "configuration: 1 problem(s)\n  DB_MAX_OVERFLOW=\"3\": must not exceed DB_POOL_SIZE")

	type embedding struct{ storeConfig }
	_, err = Load[embedding]([]string{"DB_POOL_SIZE=2", "DB_MAX_OVERFLOW=3"})
	require.NoError(t, err, "a struct that is not exported is not configuration")
}

func TestLoadReadsSecretsFromFiles(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "url")
	require.NoError(t, os.WriteFile(path, []byte("postgres://u:p@db/agentflow\n"), 0o600))

	cfg, err := Load[serviceConfig]([]string{"DATABASE_URL_FILE=" + path})
	require.NoError(t, err)
	require.Equal(t, "postgres://u:p@db/agentflow", cfg.URL)

	_, err = Load[serviceConfig]([]string{"DATABASE_URL_FILE=" + path, "DATABASE_URL=postgres://other"})
	require.ErrorContains(t, err, "DATABASE_URL=\"***MASKED***\": is set twice, also as DATABASE_URL_FILE")

	_, err = Load[serviceConfig]([]string{"DATABASE_URL_FILE=" + path + ".gone"})
	require.ErrorContains(t, err, "DATABASE_URL_FILE=")
	require.ErrorContains(t, err, "must name a readable file")
}

func TestMaskedAndSecrets(t *testing.T) {
	t.Parallel()
	cfg, err := Load[serviceConfig]([]string{
		"DATABASE_URL=postgres://u:hunter2@db/x", "CACHE_URL=redis://:hunter2@cache", "RATIO=0.25",
	})
	require.NoError(t, err)
	settings := map[string]string{}
	for _, s := range Masked(cfg) {
		settings[s.Variable] = s.Value
	}
	require.Equal(t, masked, settings["DATABASE_URL"])
	require.Equal(t, "redis://:***MASKED***@cache", settings["CACHE_URL"])
	require.Empty(t, settings["SENTRY_DSN"], "what is not set is not shown as a secret")
	require.Equal(t, "0.25", settings["RATIO"])
	require.Equal(t, "127.0.0.0/8,::1", settings["EGRESS_ALLOW"])
	require.NotContains(t, fmt.Sprint(settings), "hunter2")
	require.Equal(t, []string{"postgres://u:hunter2@db/x"}, Secrets(cfg))
}

func TestUsageNamesEveryVariable(t *testing.T) {
	t.Parallel()
	var out strings.Builder
	require.NoError(t, Usage[serviceConfig](&out, "catalog"))
	var cfg serviceConfig
	for _, v := range variables(&cfg) {
		require.Contains(t, out.String(), "  "+v.name)
		require.Contains(t, out.String(), v.help)
	}
	require.Contains(t, out.String(), "ADMIN_ADDR  (default 127.0.0.1:9103)")
	require.Contains(t, out.String(), "DATABASE_URL  (required, secret, or DATABASE_URL_FILE)")
	require.Contains(t, out.String(), "MODE  (default open, open|closed)")
	require.Contains(t, out.String(), "catalog healthcheck")
}

func TestWrongTagsPanic(t *testing.T) {
	t.Parallel()
	require.Panics(t, func() {
		_, _ = Load[struct {
			A string `env:"A"`
		}](nil)
	}, "no help")
	require.Panics(t, func() {
		_, _ = Load[struct {
			A string `env:"A" check:"prime" help:"x"`
		}](nil)
	}, "unknown check")
	require.Panics(t, func() {
		_, _ = Load[struct {
			A string `env:"A" help:"x"`
			B string `env:"A" help:"x"`
		}](nil)
	}, "one variable, two fields")
	require.Panics(t, func() {
		_, _ = Load[struct {
			A int `env:"A" envDefault:"zero" help:"x"`
		}](nil)
	}, "a default that cannot be read")
	require.Panics(t, func() { _, _ = Load[strangerConfig](nil) }, "a default for a variable nobody reads")
	require.Panics(t, func() { _, _ = Load[int](nil) }, "not a struct")
}

type strangerConfig struct {
	A string `env:"A" help:"x"`
}

func (strangerConfig) Defaults() map[string]string { return map[string]string{"B": "x"} }

func TestProblemsSpeakOfKinds(t *testing.T) {
	t.Parallel()
	type config struct {
		Flag  bool       `env:"FLAG" help:"x"`
		Count uint       `env:"COUNT" help:"x"`
		Share float64    `env:"SHARE" help:"x"`
		List  []int      `env:"LIST" envSeparator:";" help:"x"`
		Net   netip.Addr `env:"NET" help:"x"`
		Dir   string     `env:"DIR" check:"file" help:"x"`
		Dead  string     `env:"DEAD" check:"hostport" help:"x"`
	}
	_, err := Load[config]([]string{
		"FLAG=maybe", "COUNT=-1", "SHARE=half", "LIST=1;two", "NET=nowhere", "DIR=" + t.TempDir(), "DEAD=localhost:http",
	})
	for _, want := range []string{
		"7 problem(s)",
		`FLAG="maybe": must be true or false`,
		`COUNT="-1": must be a whole number, not negative`,
		`SHARE="half": must be a number`,
		`LIST="1;two": must be a list separated by ";"`,
		`unable to parse IP`,
		"must name a readable file",
		`DEAD="localhost:http": must be host:port`,
	} {
		require.ErrorContains(t, err, want)
	}
	cfg, err := Load[config]([]string{"LIST=1;2", "NET=10.0.0.1", "FLAG=true"})
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, cfg.List)
	require.Equal(t, "10.0.0.1", cfg.Net.String())
}

func TestPrefixedStructs(t *testing.T) {
	t.Parallel()
	type side struct {
		Addr string `env:"ADDR" envDefault:":1" check:"hostport" help:"address"`
	}
	type config struct {
		Left  side `envPrefix:"LEFT_"`
		Right side `envPrefix:"RIGHT_"`
	}
	cfg, err := Load[config]([]string{"RIGHT_ADDR=:2"})
	require.NoError(t, err)
	require.Equal(t, config{Left: side{":1"}, Right: side{":2"}}, cfg)
}

func TestMisspelt(t *testing.T) {
	t.Parallel()
	hints := misspelt[serviceConfig]([]string{
		"LOG_LEVLE=debug", "SENTRY_DNS=x", "DB_POOL_SIZ=3", "MODES=x", "PATH=/bin", "LOG_FORMAT=json", "LOG_FORMATS=x", //nolint:misspell // on purpose
	})
	require.Equal(t, []Setting{
		{"DB_POOL_SIZ", "DB_POOL_SIZE"},
		{"LOG_LEVLE", "LOG_LEVEL"}, //nolint:misspell // on purpose
		{"SENTRY_DNS", "SENTRY_DSN"},
	}, hints, "a variable that is set is not what was meant, and short names prove nothing")
}

func TestSampleRate(t *testing.T) {
	t.Parallel()
	half, zero := 0.5, 0.0
	for _, c := range []struct {
		environment string
		rate        *float64
		want        float64
	}{
		{"development", nil, 0},
		{"production", nil, 1},
		{"staging", nil, 1},
		{"development", &half, 0.5},
		{"production", &zero, 0},
	} {
		got := Common{SentryEnvironment: c.environment, SentrySampleRate: c.rate}.sampleRate()
		require.InDelta(t, c.want, got, 0, "%s %v", c.environment, c.rate)
	}
}

// Whatever text a variable holds, Load answers: a value inside the rules, or a problem that names the variable.
func TestLoadAnswersAnyText(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.String(), rapid.StringMatching(`-?[0-9]{1,25}(\.[0-9]{1,3})?[smh]?`)).Draw(t, "text")
		cfg, err := Load[storeConfig]([]string{"DB_POOL_SIZE=" + text, "DB_POOL_TIMEOUT=" + text, "DB_MAX_OVERFLOW=0"})
		if err == nil {
			require.True(t, cfg.PoolSize >= 1 && cfg.PoolSize <= 1000)
			require.GreaterOrEqual(t, cfg.Timeout, time.Second)
			return
		}
		var problems *ConfigError
		require.ErrorAs(t, err, &problems)
		for _, p := range problems.Problems {
			require.Contains(t, []string{"DB_POOL_SIZE", "DB_POOL_TIMEOUT"}, p.Variable)
			require.NotEmpty(t, p.Rule)
		}
	})
}

func TestDurationsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1e300", "-1e300", "NaN", "Inf", "9223372037", strconv.FormatUint(math.MaxUint64, 10)} {
		_, err := parseDuration(text)
		require.Error(t, err, text)
	}
}
