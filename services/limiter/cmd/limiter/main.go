// Command limiter runs the limiter service on its own.
package main

import (
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/limiter"
)

func main() { daemon.Main("limiter", limiter.Main) }
