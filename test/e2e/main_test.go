// Package e2e tests the platform from outside: the real binary, over HTTP, against model providers on loopback.
package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// modelKey is in the environment of every platform here, under a name that every tenant may use.
const modelKey = "key-of-the-model-2718281828"

// shared is the platform of all tests that neither stop it nor need one of their own.
var shared *platform.Platform

// house answers whoever names no address: the platform's environment points the providers to it.
var house *fakeprovider.Server

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	var stop func()
	house, stop = fakeprovider.Start(nil)
	defer stop()
	if attached, err = attach(); err != nil {
		return 1, err
	}
	if len(attached) > 0 {
		return m.Run(), nil
	}
	hotels, drop, err := hotelDatabase()
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, drop()) }()
	shared, err = platform.Launch(context.Background(), platform.Options{Env: []string{
		"LOG_LEVEL=warn", "AGENTFLOW_SECRET_MODEL=" + modelKey, "AGENTFLOW_SECRET_HOTELS=" + hotels,
		"OPENAI_BASE_URL=" + house.OpenAI(), "OPENAI_API_KEY=openai-" + modelKey,
		"GOOGLE_GEMINI_BASE_URL=" + house.Gemini(), "GEMINI_API_KEY=gemini-" + modelKey,
		"ANTHROPIC_BASE_URL=" + house.Anthropic(), "ANTHROPIC_API_KEY=anthropic-" + modelKey,
		"GROQ_BASE_URL=" + house.OpenAI(), "GROQ_API_KEY=groq-" + modelKey,
	}})
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, shared.Close()) }()
	return m.Run(), nil
}

// attached are platforms that somebody else runs, such as the gateways of one fleet: AGENTFLOW_E2E_ATTACH names them, as
// ready lines. Then the tests that need no platform of their own take turns on them.
var (
	attached []*platform.Platform
	turn     atomic.Uint64
)

func attach() ([]*platform.Platform, error) {
	var all []*platform.Platform
	for line := range strings.Lines(os.Getenv("AGENTFLOW_E2E_ATTACH")) {
		var ready platform.Ready
		if err := json.Unmarshal([]byte(line), &ready); err != nil {
			return nil, fmt.Errorf("AGENTFLOW_E2E_ATTACH: %w", err)
		}
		all = append(all, platform.Attach(ready))
	}
	return all, nil
}

// use is the shared platform. A test that fails prints the end of its log.
func use(t *testing.T) *platform.Platform {
	t.Helper()
	if n := uint64(len(attached)); n > 0 {
		return attached[turn.Add(1)%n]
	}
	t.Cleanup(func() { shared.Explain(t) })
	return shared
}

// hotelDatabase is a small database for db nodes, with the URL of a login that may read it.
func hotelDatabase() (url string, drop func() error, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "agentflow-e2e-hotels-")
	if err != nil {
		return "", nil, err
	}
	server, err := local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Fast: true})
	if err != nil {
		return "", nil, errors.Join(err, os.RemoveAll(dir))
	}
	drop = func() error {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		return errors.Join(server.Stop(ctx), os.RemoveAll(dir))
	}
	conn, err := pgx.Connect(ctx, server.URL())
	if err != nil {
		return "", nil, errors.Join(err, drop())
	}
	_, err = conn.Exec(ctx, `CREATE TABLE hotels (name text, city text, stars int, price numeric(8,2));
		INSERT INTO hotels VALUES ('Alfama', 'Lisbon', 3, 99.50), ('Belém', 'Lisbon', 5, 250), ('Chiado', 'Lisbon', 4, 180.25), ('Ritz', 'Paris', 5, 999)`)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return "", nil, errors.Join(err, drop())
	}
	return server.URL(), drop, nil
}
