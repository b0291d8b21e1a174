package local_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/agentflow/agentflow/pkg/local"
)

func ExampleLockDir() {
	dir, err := os.MkdirTemp("", "example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	lock, err := local.LockDir(dir)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = local.LockDir(dir)
	var locked *local.LockedError
	fmt.Println(errors.As(err, &locked), locked.PID == os.Getpid())
	fmt.Println(lock.Unlock())
	// Output:
	// true true
	// <nil>
}

func ExampleStartRedisStandIn() {
	ctx := context.Background()
	redis, err := local.StartRedisStandIn(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	if redis.StandIn() {
		fmt.Println("no redis-server here: limits run on the built-in stand-in")
	}
	fmt.Println(redis.Stop(ctx))
	// Output:
	// no redis-server here: limits run on the built-in stand-in
	// <nil>
}
