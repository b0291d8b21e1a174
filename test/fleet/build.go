package fleet

import (
	"path/filepath"
	"sync"

	"github.com/agentflow/agentflow/test/process"
)

// Binaries is the folder with nats-server and the services, built from the work tree when it is first asked for.
func Binaries() (string, error) { return binaries() }

var binaries = sync.OnceValues(func() (string, error) {
	return process.Build(
		"github.com/nats-io/nats-server/v2", "./services/gateway/cmd/gateway", "./services/catalog/cmd/catalog",
		"./services/executor/cmd/executor", "./services/limiter/cmd/limiter",
	)
})

// Build builds one more main package of the workspace beside them, and returns the path of the binary.
func Build(pkg string) (string, error) {
	dir, err := process.Build(pkg)
	return filepath.Join(dir, filepath.Base(pkg)), err
}
