package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/test/fleet"
)

type object = map[string]any

// pure is a workflow that calls nobody outside.
var pure = object{
	"start_node": "in",
	"nodes": []any{
		object{"id": "in", "type": "input"},
		object{"id": "out", "type": "aggregator", "metadata": object{"strategy": "template", "template": "hello {user_input}", "include_metadata": false}},
	},
	"edges": []any{object{"from": "in", "to": "out"}},
}

func TestMain(m *testing.M) {
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the fleet:", err)
		code = 1
	}
	os.Exit(code)
}

// house is the fleet of all tests that need none of their own: two of each service, with a tenant dev. The delay is what a
// load balancer gets to notice that a gateway leaves.
var (
	house = sync.OnceValues(func() (*fleet.Fleet, error) {
		f, err := fleet.Launch(context.Background(), fleet.Options{
			Env:    []string{"AGENTFLOW_SECRET_MODEL=key-of-the-model-2718281828"}, // as test/e2e expects it
			EnvOf:  map[access.Role][]string{access.Gateway: {"SHUTDOWN_DELAY_SECONDS=4"}},
			Stores: hotels,
		})
		launched = f
		return f, err
	})
	launched *fleet.Fleet
	settled  sync.Once
)

func shared(t *testing.T) *fleet.Fleet {
	t.Helper()
	f, err := house()
	require.NoError(t, err)
	settled.Do(func() { f.Settle(t) })
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(f.Log())
		}
	})
	return f
}

func stop() error {
	if launched == nil {
		return nil
	}
	return launched.Close()
}

// hotels is the database that the patterns of test/e2e with a db node ask.
func hotels(f *fleet.Fleet) (env []string, err error) {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, f.Postgres.URL())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, `CREATE TABLE hotels (name text, city text, stars int, price numeric(8,2));
		INSERT INTO hotels VALUES ('Alfama', 'Lisbon', 3, 99.50), ('Belém', 'Lisbon', 5, 250), ('Chiado', 'Lisbon', 4, 180.25), ('Ritz', 'Paris', 5, 999)`)
	return []string{"AGENTFLOW_SECRET_HOTELS=" + f.Postgres.URL()}, err
}
