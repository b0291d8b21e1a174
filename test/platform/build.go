package platform

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Binary is the path of the agentflow binary, built from the work tree when it is first asked for. The build shares its
// cache with the tests, so it has neither the flags nor the static linking of a release. AGENTFLOW_TEST_BINARY names one
// to use instead.
func Binary() (string, error) { return build() }

var build = sync.OnceValues(func() (string, error) {
	if given := os.Getenv("AGENTFLOW_TEST_BINARY"); given != "" {
		return given, nil
	}
	root, err := workspace()
	if err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp("", "agentflow-e2e-bin-")
	if err != nil {
		return "", err
	}
	built.Store(dir)
	binary := filepath.Join(dir, "agentflow")
	cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/agentflow")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build agentflow: %w\n%s", err, out)
	}
	return binary, nil
})

// built is the folder of the binary.
var built folder

type folder struct {
	mu   sync.Mutex
	path string
}

func (f *folder) Store(path string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.path = path
}

// Clean removes the binary. A TestMain calls it at the end.
func Clean() error {
	built.mu.Lock()
	defer built.mu.Unlock()
	if built.path == "" {
		return nil
	}
	return os.RemoveAll(built.path)
}

// workspace is the folder that holds go.work.
func workspace() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("there is no go.work above the tests")
		}
		dir = parent
	}
}
