// Command gateway runs the gateway service on its own.
package main

import (
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/gateway"
)

func main() { daemon.Main("gateway", gateway.Main) }
