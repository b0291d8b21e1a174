package protocol

import (
	"time"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// The executor's calls.
var (
	TestSource = Call[TestSourceRequest, TestSourceResult]{Subject: "executor.source.test"}
)

// TestSourceTimeout is how long a test may take, all its stages together.
const TestSourceTimeout = 20 * time.Second

// TestSourceRequest asks an executor to reach a source once, as a node would.
type TestSourceRequest struct {
	Tenant TenantID        `json:"tenant"`
	Source workflow.Source `json:"source"`
}

// TestSourceResult says how far the test came. A source that cannot be reached is a result, not an
// error.
type TestSourceResult struct {
	Connected bool   `json:"connected"`
	Message   string `json:"message"` // for people, without secrets
	Stage     string `json:"stage"`   // where it ended: config, secret, dns, connect, tls, auth, answer, done
}
