module github.com/agentflow/agentflow/cmd/agentflow

go 1.26.0

require (
	github.com/agentflow/agentflow/db v0.0.0
	github.com/agentflow/agentflow/pkg v0.0.0
	github.com/agentflow/agentflow/services/catalog v0.0.0
	github.com/agentflow/agentflow/services/executor v0.0.0
	github.com/agentflow/agentflow/services/gateway v0.0.0
	github.com/agentflow/agentflow/services/limiter v0.0.0
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
)

replace github.com/agentflow/agentflow/pkg => ../../pkg

replace github.com/agentflow/agentflow/db => ../../db

replace github.com/agentflow/agentflow/services/gateway => ../../services/gateway

replace github.com/agentflow/agentflow/services/catalog => ../../services/catalog

replace github.com/agentflow/agentflow/services/executor => ../../services/executor

replace github.com/agentflow/agentflow/services/limiter => ../../services/limiter
