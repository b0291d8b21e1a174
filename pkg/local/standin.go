package local

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/alicebob/miniredis/v2"
)

// StartRedisStandIn runs the built-in stand-in: a Redis in Go, inside this process, for a machine without redis-server.
// Scripts and expiry work as in the real one; about a tenth of the speed. It keeps nothing, and it ends with Stop.
// Callers announce it ([Redis.StandIn]).
func StartRedisStandIn(ctx context.Context) (*Redis, error) {
	port, err := FreePort(ctx)
	if err != nil {
		return nil, fmt.Errorf("start the Redis stand-in: %w", err)
	}
	r := &Redis{password: rand.Text(), standIn: miniredis.NewMiniRedis(), server: server{port: port}}
	r.standIn.RequireAuth(r.password)
	// By itself it stops the clock for its keys, as suits a test.
	r.standIn.ClockTTL(true)
	if err := r.standIn.StartAddr(address(port)); err != nil {
		return nil, fmt.Errorf("start the Redis stand-in: %w", err)
	}
	return r, nil
}
