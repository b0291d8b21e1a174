package protocol

import (
	"encoding/json"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// CatalogKind is what a catalog document is.
type CatalogKind string

// The kinds of documents that catalog keeps.
const (
	KindTenant   CatalogKind = "tenant"
	KindKey      CatalogKind = "key"
	KindWorkflow CatalogKind = "workflow"
	KindSource   CatalogKind = "source"
)

// CatalogEvent is one change of one catalog document. It carries the whole document as it is
// after the change, so the last message of its subject is the current state, and a reader
// needs nothing older.
type CatalogEvent struct {
	Type      string          `json:"type"` // workflow_created.v1, key_revoked.v1, …
	At        Time            `json:"at"`
	Tenant    TenantID        `json:"tenant"`
	Kind      CatalogKind     `json:"kind"`
	ID        string          `json:"id"`
	Revision  int             `json:"revision"` // 1 for the first event of a document
	CommandID string          `json:"command_id"`
	RequestID string          `json:"request_id,omitempty"`
	Actor     string          `json:"actor"`
	Document  json.RawMessage `json:"document"` // Tenant, Key, Workflow or KeptSource
}

// Deleted tells whether the event ends its document.
func (e CatalogEvent) Deleted() bool { return strings.HasSuffix(e.Type, "_deleted.v1") }

// Tenant is a customer of the platform.
type Tenant struct {
	ID        TenantID      `json:"id"`
	Name      string        `json:"name"`
	Status    string        `json:"status"` // active or suspended
	Limits    *TenantLimits `json:"limits,omitempty"`
	Version   int           `json:"version"` // counts up with every update
	CreatedAt Time          `json:"created_at"`
	UpdatedAt Time          `json:"updated_at"`
}

// TenantLimits override the platform's defaults for one tenant; nil means the default, 0 unlimited.
type TenantLimits struct {
	MessagesPerSecond *int `json:"max_messages_per_second,omitempty"`
	RequestsPerMinute *int `json:"max_requests_per_minute,omitempty"`
	TokensPerMinute   *int `json:"max_tokens_per_minute,omitempty"`
	BurstSize         *int `json:"burst_size,omitempty"`
}

// States of tenants and keys.
const (
	StatusActive    = "active"
	StatusSuspended = "suspended"
	StatusRevoked   = "revoked"
	StatusExpired   = "expired"
)

// Key is an API key as it is kept: never the key itself, only its hash.
type Key struct {
	ID        string        `json:"id"`
	Tenant    TenantID      `json:"tenant_id"`
	Name      string        `json:"name"`
	Hash      string        `json:"hash"`   // hex SHA-256 of the whole key
	Prefix    string        `json:"prefix"` // the first characters, to tell keys apart
	Scopes    []string      `json:"scopes"`
	Status    string        `json:"status"` // active, revoked; expired follows from expires_at
	Limits    *TenantLimits `json:"limits,omitempty"`
	ExpiresAt Time          `json:"expires_at"`
	CreatedAt Time          `json:"created_at"`
	RevokedAt Time          `json:"revoked_at"`
	Version   int           `json:"version"`

	// After a rotation the hash of before may stay valid for a while, so that clients can change over.
	PreviousHash      string `json:"previous_hash,omitempty"`
	PreviousExpiresAt Time   `json:"previous_expires_at"` // null: at once
}

// Scopes of a key. Admin implies all of them, over all tenants.
const (
	ScopeWorkflowsRead    = "workflows:read"
	ScopeWorkflowsWrite   = "workflows:write"
	ScopeWorkflowsExecute = "workflows:execute"
	ScopeSourcesRead      = "sources:read"
	ScopeSourcesWrite     = "sources:write"
	ScopeExecutionsRead   = "executions:read"
	ScopeExecutionsWrite  = "executions:write"
	ScopeAdmin            = "admin"
)

// TenantScopes are what a key may do by default: everything within its tenant.
func TenantScopes() []string {
	return []string{
		ScopeWorkflowsRead, ScopeWorkflowsWrite, ScopeWorkflowsExecute, ScopeSourcesRead, ScopeSourcesWrite,
		ScopeExecutionsRead, ScopeExecutionsWrite,
	}
}

// States of a workflow.
const (
	WorkflowDraft     = "draft"
	WorkflowPublished = "published"
	WorkflowArchived  = "archived"
	WorkflowDeleted   = "deleted"
)

// States of a kept source.
const (
	SourceActive  = "active"
	SourceDeleted = "deleted"
)

// Workflow is a stored workflow.
type Workflow struct {
	ID          string          `json:"id"`
	Tenant      TenantID        `json:"tenant_id"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Status      string          `json:"status"`
	Version     int             `json:"version"` // counts up with every update
	Spec        json.RawMessage `json:"spec,omitempty"`
	CreatedAt   Time            `json:"created_at"`
	CreatedBy   string          `json:"created_by"`
	UpdatedAt   Time            `json:"updated_at"`
	UpdatedBy   string          `json:"updated_by"`
	DeletedAt   Time            `json:"deleted_at"`
	DeletedBy   string          `json:"deleted_by,omitempty"`
}

// WorkflowVersion is a workflow as one of its updates left it.
type WorkflowVersion struct {
	WorkflowID  string          `json:"workflow_id"`
	Version     int             `json:"version"`
	Name        string          `json:"name"`
	Description string          `json:"description"`
	Status      string          `json:"status"`
	Spec        json.RawMessage `json:"spec,omitempty"`
	CreatedAt   Time            `json:"created_at"`
	CreatedBy   string          `json:"created_by"`
}

// KeptSource is a source kept by a tenant, for workflows that name it without declaring it.
type KeptSource struct {
	workflow.Source
	Name      string   `json:"name,omitempty"`
	Tenant    TenantID `json:"tenant_id"`
	Version   int      `json:"version"`
	Status    string   `json:"status"`
	CreatedAt Time     `json:"created_at"`
	CreatedBy string   `json:"created_by"`
	UpdatedAt Time     `json:"updated_at"`
	UpdatedBy string   `json:"updated_by"`
	DeletedAt Time     `json:"deleted_at"`
	DeletedBy string   `json:"deleted_by,omitempty"`
}
