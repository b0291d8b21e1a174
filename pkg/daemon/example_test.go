package daemon_test

import (
	"context"
	"fmt"
	"time"

	"github.com/agentflow/agentflow/pkg/daemon"
)

type limiterConfig struct {
	RedisURL string        `env:"REDIS_URL" check:"required,url=redis rediss" secret:"true" help:"where Redis is"`
	Burst    int           `env:"BURST" envDefault:"10" check:"min=1" help:"requests let through at once"`
	Window   time.Duration `env:"WINDOW" envDefault:"1m" check:"min=1s" help:"length of a window"`
}

func ExampleLoad() {
	cfg, err := daemon.Load[limiterConfig]([]string{"REDIS_URL=redis://:hunter2@localhost", "WINDOW=30"})
	fmt.Println(cfg.Burst, cfg.Window, err)
	fmt.Println(daemon.Masked(cfg))

	_, err = daemon.Load[limiterConfig]([]string{"BURST=0", "WINDOW=soon"})
	fmt.Println(err)
	// Output:
	// 10 30s <nil>
	// [{REDIS_URL ***MASKED***} {BURST 10} {WINDOW 30s}]
	// configuration: 3 problem(s)
	//   REDIS_URL: is required and not set; set it: where Redis is
	//   BURST="0": must be at least 1; correct it, or leave it out for 10
	//   WINDOW="soon": must be a duration such as 1m30s, or a number of seconds; correct it, or leave it out for 1m
}

func ExampleRuntime_Group() {
	rt, err := daemon.NewRuntime("example", daemon.Common{LogLevel: "error", ShutdownTimeout: time.Second})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())

	g := rt.Group()
	defer g.Close(ctx) // closes the doors when what follows cannot be opened
	g.Door("store", func(context.Context) error {
		fmt.Println("store closed")
		return nil
	})
	g.Add(daemon.Part{Name: "worker", Run: func(ctx context.Context) error {
		<-ctx.Done()
		fmt.Println("worker ended")
		return nil
	}})
	g.Add(daemon.Part{Name: "intake", Run: func(ctx context.Context) error {
		stop() // as SIGTERM would
		<-ctx.Done()
		fmt.Println("intake ended")
		return nil
	}})
	fmt.Println(g.Run(ctx))
	// Output:
	// intake ended
	// worker ended
	// store closed
	// <nil>
}
