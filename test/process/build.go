package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Build builds main packages of the workspace (or of modules it requires) and returns the folder of the binaries. The build
// shares its cache with the tests, so it has neither the flags nor the static linking of a release. The folder stays between
// runs and is shared by all test packages: what is in it and up to date is not linked again. AGENTFLOW_TEST_BINARIES
// names one instead; what it holds is taken as it is.
func Build(packages ...string) (string, error) {
	root, err := Workspace()
	if err != nil {
		return "", err
	}
	given := os.Getenv("AGENTFLOW_TEST_BINARIES")
	dir := given
	if dir == "" { // two work trees are two platforms
		dir = filepath.Join(os.TempDir(), fmt.Sprintf("agentflow-test-%d", os.Geteuid()), "bin"+strings.ReplaceAll(root, string(filepath.Separator), "-"))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, ".lock")) // packages are tested side by side
	if err != nil {
		return "", err
	}
	defer unlock()
	for _, pkg := range packages {
		binary := filepath.Join(dir, name(pkg))
		if _, err := os.Stat(binary); given != "" && err == nil {
			continue
		}
		cmd := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", binary, pkg)
		cmd.Dir = root
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("build %s: %w\n%s", pkg, err, out)
		}
	}
	return dir, nil
}

// name is that of a package's binary: its last element that is no version.
func name(pkg string) string {
	base := filepath.Base(pkg)
	if len(base) > 1 && base[0] == 'v' && base[1] >= '0' && base[1] <= '9' {
		base = filepath.Base(filepath.Dir(pkg))
	}
	return base
}

// Workspace is the folder that holds go.work.
func Workspace() (string, error) {
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
