package protocol

import "encoding/json"

// Catalog's calls: the reads. A tenant's request sees what is the tenant's; an id that belongs to
// another tenant is FORBIDDEN, an unknown one NOT_FOUND. Writes are commands.
var (
	GetWorkflow          = Call[GetWorkflowRequest, Workflow]{Subject: "catalog.workflow.get"}
	ListWorkflows        = Call[ListWorkflowsRequest, List[Workflow]]{Subject: "catalog.workflow.list"}
	ListWorkflowVersions = Call[ListWorkflowVersionsRequest, List[WorkflowVersion]]{Subject: "catalog.workflow.versions"}

	GetSource   = Call[GetSourceRequest, KeptSource]{Subject: "catalog.source.get"}
	ListSources = Call[ListSourcesRequest, List[KeptSource]]{Subject: "catalog.source.list"}

	GetTenant   = Call[GetTenantRequest, Tenant]{Subject: "catalog.tenant.get"}
	ListTenants = Call[ListTenantsRequest, List[Tenant]]{Subject: "catalog.tenant.list"}
	GetKey      = Call[GetKeyRequest, Key]{Subject: "catalog.key.get"}
	ListKeys    = Call[ListKeysRequest, List[Key]]{Subject: "catalog.key.list"}

	GetExecution        = Call[GetExecutionRequest, Execution]{Subject: "catalog.execution.get"}
	ListExecutions      = Call[ListExecutionsRequest, List[Execution]]{Subject: "catalog.execution.list"}
	GetExecutionCommits = Call[GetExecutionCommitsRequest, ExecutionCommits]{Subject: "catalog.execution.commits"}
	GetStats            = Call[GetStatsRequest, Stats]{Subject: "catalog.execution.stats"}

	ListAudit   = Call[ListAuditRequest, List[AuditRecord]]{Subject: "catalog.audit.list"}
	RecordAudit = Call[RecordAuditRequest, AuditRecord]{Subject: "catalog.audit.record"}

	ProjectionStates = Call[ProjectionStatesRequest, ProjectionReport]{Subject: "catalog.projections"}
)

// Limits of a page.
const (
	DefaultLimit = 50
	MaxLimit     = 100
)

// Page asks for one page of a list. The newest come first.
type Page struct {
	Skip   int    `json:"skip"`
	Limit  int    `json:"limit"`            // 0 means DefaultLimit
	Cursor string `json:"cursor,omitempty"` // a List's NextCursor; goes with skip 0
}

// List is one page.
type List[T any] struct {
	Items      []T    `json:"items"`
	Total      int64  `json:"total"` // of all pages; -1 on pages that a cursor asked for
	Skip       int    `json:"skip"`
	Limit      int    `json:"limit"`
	HasMore    bool   `json:"has_more"`
	NextCursor string `json:"next_cursor,omitempty"` // "" on the last page
}

// GetWorkflowRequest reads a workflow.
type GetWorkflowRequest struct {
	Tenant  TenantID `json:"tenant"`
	ID      string   `json:"id"`
	Version int      `json:"version,omitempty"` // 0 means the current one
}

// ListWorkflowsRequest lists workflows, without their specs.
type ListWorkflowsRequest struct {
	Tenant TenantID `json:"tenant"`
	Page   Page     `json:"page"`
	Status string   `json:"status,omitempty"` // "" means every one but deleted
	Search string   `json:"search,omitempty"` // part of the name or the description, any case
}

// ListWorkflowVersionsRequest lists the versions of a workflow, the newest first, without specs.
type ListWorkflowVersionsRequest struct {
	Tenant TenantID `json:"tenant"`
	ID     string   `json:"id"`
	Page   Page     `json:"page"`
}

// GetSourceRequest reads a kept source, masked.
type GetSourceRequest struct {
	Tenant TenantID `json:"tenant"`
	ID     string   `json:"id"`
}

// ListSourcesRequest lists kept sources, masked.
type ListSourcesRequest struct {
	Tenant TenantID `json:"tenant"`
	Page   Page     `json:"page"`
	Kind   string   `json:"kind,omitempty"`
}

// GetTenantRequest reads a tenant.
type GetTenantRequest struct {
	Tenant TenantID `json:"tenant"`
}

// ListTenantsRequest lists all tenants; for administrators.
type ListTenantsRequest struct {
	Page   Page   `json:"page"`
	Status string `json:"status,omitempty"`
}

// GetKeyRequest reads a key, without its hash.
type GetKeyRequest struct {
	Tenant TenantID `json:"tenant"`
	ID     string   `json:"id"`
}

// ListKeysRequest lists the keys of a tenant, without their hashes.
type ListKeysRequest struct {
	Tenant TenantID `json:"tenant"`
	Page   Page     `json:"page"`
	Status string   `json:"status,omitempty"` // active, revoked or expired
}

// Execution is an execution as the tables have it.
type Execution struct {
	ID              ExecutionID       `json:"id"`
	Tenant          TenantID          `json:"tenant_id"`
	WorkflowID      string            `json:"workflow_id,omitempty"` // "" for an inline spec
	WorkflowVersion int               `json:"workflow_version,omitempty"`
	WorkflowName    string            `json:"workflow_name,omitempty"`
	Status          string            `json:"status"`                  // PENDING RUNNING COMPLETED FAILED TIMED_OUT CANCELLED
	InitialState    json.RawMessage   `json:"initial_state,omitempty"` // not in lists
	FinalState      json.RawMessage   `json:"final_state,omitempty"`   // not in lists; partial where it did not complete
	InitialStateRef string            `json:"initial_state_ref,omitempty"`
	FinalStateRef   string            `json:"final_state_ref,omitempty"` // in the object store, for a state too large to be told here
	Error           *Failure          `json:"error,omitempty"`
	Timeout         *ExecutionTimeout `json:"timeout,omitempty"` // set when TIMED_OUT
	Tags            []string          `json:"tags,omitempty"`
	Actor           string            `json:"actor,omitempty"`
	RequestID       string            `json:"request_id,omitempty"`
	RerunOf         ExecutionID       `json:"rerun_of,omitempty"`
	SpecHash        string            `json:"spec_hash,omitempty"`
	CreatedAt       Time              `json:"created_at"` // when it was requested
	StartedAt       Time              `json:"started_at"`
	CompletedAt     Time              `json:"completed_at"` // when it ended, however it ended
	Deadline        Time              `json:"deadline"`
	DurationMS      *int64            `json:"duration_ms"`      // null until it ends
	DurationSeconds *float64          `json:"duration_seconds"` // the same, in seconds
	TokensUsed      int64             `json:"tokens_used"`
	Cost            json.Number       `json:"cost"`
	NodesRun        int               `json:"nodes_run"`
	Nodes           []NodeRun         `json:"nodes,omitempty"` // not in lists
	LastSequence    uint64            `json:"last_sequence"`   // of the newest commit that the tables have seen
}

// ExecutionTimeout says which deadline ended an execution.
type ExecutionTimeout struct {
	Scope     string `json:"scope"` // execution or node
	Node      string `json:"node,omitempty"`
	ElapsedMS int64  `json:"elapsed_ms"`
}

// States of a NodeRun.
const (
	NodeCompletedStatus   = "COMPLETED"
	NodeFailedStatus      = "FAILED"
	NodeRetryingStatus    = "RETRYING"
	NodeRateLimitedStatus = "RATE_LIMITED"
)

// NodeRun is one run of one node: of several, when the node stands in a loop.
type NodeRun struct {
	Node        string      `json:"node"`
	Iteration   int         `json:"iteration"`
	Status      string      `json:"status"`
	Attempt     int         `json:"attempt"`
	StartedAt   Time        `json:"started_at"` // of the last attempt
	CompletedAt Time        `json:"completed_at"`
	DurationMS  int64       `json:"duration_ms"` // of the last attempt
	TokensUsed  int64       `json:"tokens_used"`
	Cost        json.Number `json:"cost"`
	Intent      string      `json:"intent,omitempty"` // what a router chose
	Error       *Failure    `json:"error,omitempty"`  // of the last failed attempt
	Handled     bool        `json:"handled,omitempty"`
	RetryAt     Time        `json:"retry_at"`
	Queue       string      `json:"queue,omitempty"` // it waits for
	Metric      Metric      `json:"limiting_metric,omitempty"`
}

// GetExecutionRequest reads an execution with its nodes and states.
type GetExecutionRequest struct {
	Tenant TenantID    `json:"tenant"`
	ID     ExecutionID `json:"id"`
}

// ListExecutionsRequest lists executions by when they were requested.
type ListExecutionsRequest struct {
	Tenant     TenantID `json:"tenant"`
	Page       Page     `json:"page"`
	Status     string   `json:"status,omitempty"`
	WorkflowID string   `json:"workflow_id,omitempty"` // must exist
	Tag        string   `json:"tag,omitempty"`
	Since      Time     `json:"since"` // requested at or after
	Until      Time     `json:"until"` // requested before
}

// GetExecutionCommitsRequest reads the archive of one execution's log.
type GetExecutionCommitsRequest struct {
	Tenant TenantID    `json:"tenant"`
	ID     ExecutionID `json:"id"`
	After  uint64      `json:"after,omitempty"` // sequence of the last commit already seen
	Limit  int         `json:"limit,omitempty"` // commits; 0 means 100, at most 500
}

// ExecutionCommits are archived commits in order, as many as fit into one answer.
type ExecutionCommits struct {
	Commits []ArchivedCommit `json:"commits"`
	HasMore bool             `json:"has_more"`
	// Through is the sequence up to which the archive had taken the partition in: what is newer
	// stands in the hot log alone.
	Through uint64 `json:"through"`
}

// ArchivedCommit is a commit of an execution, byte for byte: see Record.
type ArchivedCommit struct {
	Sequence uint64          `json:"sequence"`
	Previous uint64          `json:"previous"`
	ID       string          `json:"id"`
	Stored   Time            `json:"stored"`
	Body     json.RawMessage `json:"body"` // as DecodeCommit reads it
}

// Record decodes the commit.
func (a ArchivedCommit) Record() (Record, error) {
	c, err := DecodeCommit(a.ID, a.Body)
	if err != nil {
		return Record{}, err
	}
	return Record{Commit: c, Sequence: a.Sequence, Previous: a.Previous, Stored: a.Stored.Time}, nil
}

// GetStatsRequest sums up executions.
type GetStatsRequest struct {
	Tenant     TenantID `json:"tenant"`
	WorkflowID string   `json:"workflow_id,omitempty"` // "" means all of the tenant; else it must exist
	Since      Time     `json:"since"`                 // requested at or after
	Until      Time     `json:"until"`                 // requested before
}

// Stats sums up executions. Durations are of those that ended, in milliseconds.
type Stats struct {
	WorkflowID    string           `json:"workflow_id,omitempty"`
	Since         Time             `json:"since"`
	Until         Time             `json:"until"`
	Total         int64            `json:"total"`
	ByStatus      map[string]int64 `json:"by_status"`
	SuccessRate   float64          `json:"success_rate"` // completed of all that ended, 0 to 1; 0 when none ended
	AvgDurationMS float64          `json:"avg_duration_ms"`
	P50DurationMS float64          `json:"p50_duration_ms"`
	P95DurationMS float64          `json:"p95_duration_ms"`
	P99DurationMS float64          `json:"p99_duration_ms"`
	TokensUsed    int64            `json:"tokens_used"`
	Cost          json.Number      `json:"cost"`
	Timeouts      int64            `json:"timeouts"`
	ByDay         []DayStats       `json:"by_day"` // days (UTC) with executions, ascending; the last 366
}

// DayStats sums up the executions requested on one day.
type DayStats struct {
	Day           string      `json:"day"` // 2006-01-02, UTC
	Total         int64       `json:"total"`
	Completed     int64       `json:"completed"`
	Failed        int64       `json:"failed"`
	TimedOut      int64       `json:"timed_out"`
	Cancelled     int64       `json:"cancelled"`
	AvgDurationMS float64     `json:"avg_duration_ms"`
	TokensUsed    int64       `json:"tokens_used"`
	Cost          json.Number `json:"cost"`
}

// ListAuditRequest lists who wrote what.
type ListAuditRequest struct {
	Tenant TenantID    `json:"tenant"`
	All    bool        `json:"all,omitempty"` // every tenant's records; for administrators, goes with no tenant
	Page   Page        `json:"page"`
	Actor  string      `json:"actor,omitempty"`
	Action string      `json:"action,omitempty"`
	Kind   CatalogKind `json:"kind,omitempty"`
	ID     string      `json:"id,omitempty"` // of the document
	Since  Time        `json:"since"`
	Until  Time        `json:"until"`
}

// AuditRecord is one write, or one access that was refused.
type AuditRecord struct {
	ID        string          `json:"id"`
	At        Time            `json:"at"`
	Tenant    TenantID        `json:"tenant_id"`
	Actor     string          `json:"actor"`
	Action    string          `json:"action"` // workflow_created, key_revoked, access_refused, …
	Kind      CatalogKind     `json:"kind,omitempty"`
	Target    string          `json:"target_id,omitempty"`
	RequestID string          `json:"request_id,omitempty"`
	CommandID string          `json:"command_id,omitempty"`
	Before    json.RawMessage `json:"before,omitempty"` // masked; absent on creation
	After     json.RawMessage `json:"after,omitempty"`  // masked
	Reason    string          `json:"reason,omitempty"` // of a refusal
}

// ActionAccessRefused is what RecordAudit records: a suspended tenant or a dead key at the door.
const ActionAccessRefused = "access_refused"

// RecordAuditRequest records a refused access. Repetitions of one actor and reason within a minute
// become one record, so that a stubborn client cannot fill the table.
type RecordAuditRequest struct {
	Tenant    TenantID `json:"tenant"`
	Actor     string   `json:"actor"`  // id of the key
	Reason    string   `json:"reason"` // key revoked, key expired, tenant suspended
	RequestID string   `json:"request_id,omitempty"`
	At        Time     `json:"at"`
}

// VerifyReport says what a comparison of the tables with the log looked at, and what differs.
type VerifyReport struct {
	Documents   int64        `json:"documents"`
	Executions  int64        `json:"executions"`
	Commits     int64        `json:"commits"`
	Differences []Difference `json:"differences"`
	Total       int64        `json:"total"` // of differences, also those beyond the limit
}

// Difference is one place where the tables say something other than the log.
type Difference struct {
	Table string `json:"table"`
	ID    string `json:"id"`
	Field string `json:"field,omitempty"` // "" when a whole row is missing or too many
	Log   string `json:"log"`             // what the log says; "" for a row that should not be there
	Row   string `json:"row"`             // what the table says; "" for a missing row
}

// ProjectionStatesRequest asks how far the tables follow the log.
type ProjectionStatesRequest struct{}

// ProjectionReport is how far the tables follow the log.
type ProjectionReport struct {
	Projections []ProjectionState `json:"projections"`
}

// ProjectionState is one stream's.
type ProjectionState struct {
	Stream    string `json:"stream"`
	Projected uint64 `json:"projected"` // sequence of the last message in the tables
	Last      uint64 `json:"last"`      // of the stream
}
