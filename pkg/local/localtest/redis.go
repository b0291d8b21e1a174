package localtest

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/agentflow/agentflow/pkg/local"
)

const (
	redisDatabases = 64
	// claimTTL outlives a test process (go test ends one after 10 minutes), and frees the databases of a killed one.
	claimTTL = 15 * time.Minute
)

// Redis is the URL of an empty numbered database that is the test's own until it ends.
//
// Claims are kept in database 0 of the server, so that several processes may share one. When all databases are taken
// it waits for one.
func Redis(tb testing.TB) string {
	tb.Helper()
	server, err := sharedRedis()
	if err != nil {
		tb.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(tb.Context(), patience)
	defer cancel()
	database, err := claimDatabase(ctx, server)
	if err != nil {
		tb.Fatalf("a database of the test Redis: %v", err)
	}
	tb.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(tb.Context()), patience)
		defer cancel()
		if err := withRedis(server, 0, func(c *redis.Client) error { return c.Del(ctx, claimKey(database)).Err() }); err != nil {
			tb.Errorf("give the test Redis database back: %v", err)
		}
	})
	address, err := databaseURL(server, database)
	if err != nil {
		tb.Fatal(err)
	}
	return address
}

var sharedRedis = sync.OnceValues(func() (string, error) {
	if address := os.Getenv("AGENTFLOW_TEST_REDIS_URL"); address != "" {
		return address, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dir, err := scratch(ctx)
	if err != nil {
		return "", fmt.Errorf("a folder for Redis: %w", err)
	}
	server, err := local.StartRedis(ctx, local.RedisOptions{Dir: dir.path, Databases: redisDatabases})
	if err != nil {
		return "", errors.Join(err, dir.remove())
	}
	share(server, dir)
	return server.URL(), nil
})

// claimDatabase takes the first database that nobody has claimed and empties it.
func claimDatabase(ctx context.Context, server string) (int, error) {
	claimed := 0
	err := withRedis(server, 0, func(c *redis.Client) error {
		count, err := databaseCount(ctx, c)
		if err != nil {
			return err
		}
		ticker := time.NewTicker(20 * time.Millisecond)
		defer ticker.Stop()
		for {
			for database := 1; database < count; database++ {
				won, err := c.SetNX(ctx, claimKey(database), os.Getpid(), claimTTL).Result()
				if err != nil {
					return err
				}
				if won {
					claimed = database
					return nil
				}
			}
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return fmt.Errorf("all %d are taken: %w", count-1, ctx.Err())
			}
		}
	})
	if err != nil {
		return 0, err
	}
	return claimed, withRedis(server, claimed, func(c *redis.Client) error { return c.FlushDB(ctx).Err() })
}

func databaseCount(ctx context.Context, c *redis.Client) (int, error) {
	config, err := c.ConfigGet(ctx, "databases").Result()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(config["databases"])
}

func claimKey(database int) string { return "agentflow-test:claim:" + strconv.Itoa(database) }

func databaseURL(server string, database int) (string, error) {
	u, err := url.Parse(server)
	if err != nil {
		return "", fmt.Errorf("the test Redis's URL: %w", err)
	}
	u.Path = "/" + strconv.Itoa(database)
	return u.String(), nil
}

func withRedis(server string, database int, do func(*redis.Client) error) error {
	address, err := databaseURL(server, database)
	if err != nil {
		return err
	}
	options, err := redis.ParseURL(address)
	if err != nil {
		return err
	}
	client := redis.NewClient(options)
	return errors.Join(do(client), client.Close())
}
