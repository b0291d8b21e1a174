// Command catalog runs the catalog service on its own.
package main

import (
	"github.com/agentflow/agentflow/pkg/daemon"
	"github.com/agentflow/agentflow/services/catalog"
)

func main() { daemon.Main("catalog", catalog.Main) }
