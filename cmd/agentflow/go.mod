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
	github.com/HdrHistogram/hdrhistogram-go v1.4.0 // indirect
	github.com/andybalholm/brotli v1.2.0 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/klauspost/compress v1.20.3 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	github.com/valyala/fasthttp v1.69.0 // indirect
)

replace github.com/agentflow/agentflow/pkg => ../../pkg

replace github.com/agentflow/agentflow/db => ../../db

replace github.com/agentflow/agentflow/services/gateway => ../../services/gateway

replace github.com/agentflow/agentflow/services/catalog => ../../services/catalog

replace github.com/agentflow/agentflow/services/executor => ../../services/executor

replace github.com/agentflow/agentflow/services/limiter => ../../services/limiter
