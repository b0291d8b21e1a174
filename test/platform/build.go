package platform

import (
	"path/filepath"
	"sync"

	"github.com/agentflow/agentflow/test/process"
)

// Binary is the path of the agentflow binary, built from the work tree when it is first asked for.
func Binary() (string, error) { return build() }

var build = sync.OnceValues(func() (string, error) {
	dir, err := process.Build("./cmd/agentflow")
	return filepath.Join(dir, "agentflow"), err
})
