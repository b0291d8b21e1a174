// Command executor runs the executor service on its own.
package main

import (
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/executor"
)

func main() { daemon.Main("executor", executor.Main) }
