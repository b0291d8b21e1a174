package local_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/agentflow/agentflow/pkg/leaktest"
	"github.com/agentflow/agentflow/pkg/local"
)

// parentOf makes the test binary a process like "agentflow up": it starts servers in that folder and waits to be killed.
const (
	parentOf   = "AGENTFLOW_LOCAL_TEST_PARENT_OF"
	templateIn = "AGENTFLOW_LOCAL_TEST_TEMPLATE"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(parentOf); dir != "" {
		if err := runParent(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var err error
	if template, err = os.MkdirTemp("", "agentflow-template-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	leaktest.VerifyTestMain(thenRemove{m})
}

// thenRemove removes the template after the tests.
type thenRemove struct{ tests *testing.M }

func (t thenRemove) Run() int {
	code := t.tests.Run()
	if err := os.RemoveAll(template); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// template spares most tests an initdb.
var template string

func runParent(dir string) error {
	ctx := context.Background()
	if _, err := local.LockDir(dir); err != nil {
		return err
	}
	options := local.PostgresOptions{Dir: filepath.Join(dir, "postgres"), Template: os.Getenv(templateIn)}
	if _, err := local.StartPostgres(ctx, options); err != nil {
		return err
	}
	if _, err := local.StartRedis(ctx, local.RedisOptions{Dir: filepath.Join(dir, "redis")}); err != nil {
		return err
	}
	fmt.Println("ready")
	select {}
}
