package localtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/agentflow/agentflow/pkg/local"
)

// Postgres is the superuser's URL of an empty database of the test's own, dropped when the test ends.
//
// Roles belong to the whole server: tests in parallel see each other's.
func Postgres(tb testing.TB) string {
	tb.Helper()
	server, err := sharedPostgres()
	if err != nil {
		tb.Fatal(err)
	}
	address, err := url.Parse(server)
	if err != nil {
		tb.Fatalf("the test database's URL: %v", err)
	}
	name := "test_" + strings.ToLower(rand.Text()[:16])
	if err := execute(tb.Context(), server, "CREATE DATABASE "+name); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		// FORCE cuts connections that the test has left open.
		if err := execute(context.WithoutCancel(tb.Context()), server, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			tb.Error(err)
		}
	})
	address.Path = "/" + name
	return address.String()
}

var sharedPostgres = sync.OnceValues(func() (string, error) {
	if address := os.Getenv("AGENTFLOW_TEST_DATABASE_URL"); address != "" {
		return address, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := scratch(ctx)
	if err != nil {
		return "", fmt.Errorf("a folder for Postgres: %w", err)
	}
	server, err := local.StartPostgres(ctx, postgresOptions(dir))
	if err != nil {
		return "", errors.Join(err, dir.remove())
	}
	share(server, dir)
	return server.URL(), nil
})

func execute(ctx context.Context, server, statement string) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := pgconn.Connect(ctx, server)
	if err != nil {
		return fmt.Errorf("connect to the test Postgres: %w", err)
	}
	_, err = conn.Exec(ctx, statement).ReadAll()
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("%s: %w", statement, err)
	}
	return nil
}
