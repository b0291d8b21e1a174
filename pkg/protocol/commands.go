package protocol

import (
	"encoding/json"
	"time"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Verb is what a command asks for.
type Verb string

// The commands that catalog handles, with the data each of them carries and what it answers.
const (
	VerbTenantCreate   Verb = "tenant_create"   // CreateTenant -> Tenant; CONFLICT when the tenant exists
	VerbTenantUpdate   Verb = "tenant_update"   // UpdateTenant -> Tenant
	VerbKeyCreate      Verb = "key_create"      // CreateKey -> Key
	VerbKeyUpdate      Verb = "key_update"      // UpdateKey -> Key
	VerbKeyRotate      Verb = "key_rotate"      // RotateKey -> Key
	VerbKeyRevoke      Verb = "key_revoke"      // RevokeKey -> Key; revoking twice answers the same
	VerbWorkflowCreate Verb = "workflow_create" // CreateWorkflow -> Workflow
	VerbWorkflowUpdate Verb = "workflow_update" // UpdateWorkflow -> Workflow
	VerbWorkflowDelete Verb = "workflow_delete" // DeleteWorkflow -> Workflow, status deleted
	VerbSourceCreate   Verb = "source_create"   // CreateSource -> KeptSource, secrets masked
	VerbSourceUpdate   Verb = "source_update"   // UpdateSource -> KeptSource, secrets masked
	VerbSourceDelete   Verb = "source_delete"   // DeleteSource -> KeptSource, status deleted
)

// CommandPatience is how long a command is worth carrying out. Catalog drops an older one that it
// has not begun: whoever sent it has been told to try again long ago.
const CommandPatience = 30 * time.Second

// Command is a write on its way to catalog. Its tenant is that of the document it changes.
type Command struct {
	ID        string          `json:"id"` // the same id answers the same
	Tenant    TenantID        `json:"tenant"`
	Verb      Verb            `json:"verb"`
	Actor     string          `json:"actor"`
	RequestID string          `json:"request_id,omitempty"`
	At        Time            `json:"at"`
	Reply     string          `json:"reply"` // subject on which Reply[T] is awaited
	Data      json.RawMessage `json:"data"`
}

// CreateTenant makes the tenant that the command names.
type CreateTenant struct {
	Name   string        `json:"name"` // "" means the id
	Limits *TenantLimits `json:"limits,omitempty"`
}

// UpdateTenant changes the tenant that the command names. Absent fields stay as they are.
type UpdateTenant struct {
	Name    *string       `json:"name,omitempty"`
	Status  *string       `json:"status,omitempty"` // active or suspended
	Limits  *TenantLimits `json:"limits,omitempty"` // replaces all limits
	IfMatch int           `json:"if_match,omitempty"`
}

// CreateKey registers a key that its maker has shown to its owner: only the hash travels.
type CreateKey struct {
	ID        string        `json:"id,omitempty"` // key_…; "" lets catalog choose
	Name      string        `json:"name"`
	Hash      string        `json:"hash"` // hex SHA-256 of the whole key
	Prefix    string        `json:"prefix"`
	Scopes    []string      `json:"scopes,omitempty"` // none means TenantScopes
	Limits    *TenantLimits `json:"limits,omitempty"`
	ExpiresAt Time          `json:"expires_at"`
}

// UpdateKey changes what a key may do or how long it lives.
type UpdateKey struct {
	ID           string        `json:"id"`
	Name         *string       `json:"name,omitempty"`
	Scopes       []string      `json:"scopes,omitempty"`
	Limits       *TenantLimits `json:"limits,omitempty"`
	ExpiresAt    *Time         `json:"expires_at,omitempty"`
	NeverExpires bool          `json:"never_expires,omitempty"` // takes the expiry away; ExpiresAt is nil then
	IfMatch      int           `json:"if_match,omitempty"`
}

// RotateKey gives a key a new secret. The one of before stays valid for the overlap.
type RotateKey struct {
	ID             string `json:"id"`
	Hash           string `json:"hash"`
	Prefix         string `json:"prefix"`
	OverlapSeconds int    `json:"overlap_seconds,omitempty"` // at most 7 days
}

// RevokeKey ends a key at once.
type RevokeKey struct {
	ID string `json:"id"`
}

// CreateWorkflow stores a new workflow.
type CreateWorkflow struct {
	ID          string          `json:"id,omitempty"` // wf_…; "" lets catalog choose
	Name        string          `json:"name"`         // "" means the name in the spec
	Description string          `json:"description"`  // "" means the description in the spec
	Status      string          `json:"status"`       // draft or published; "" means draft
	Spec        json.RawMessage `json:"spec"`
}

// UpdateWorkflow changes a workflow. Absent fields stay as they are.
type UpdateWorkflow struct {
	ID          string          `json:"id"`
	Name        *string         `json:"name,omitempty"`
	Description *string         `json:"description,omitempty"`
	Status      *string         `json:"status,omitempty"`
	Spec        json.RawMessage `json:"spec,omitempty"`
	IfMatch     int             `json:"if_match,omitempty"` // the version the client has seen; 0 means any
}

// DeleteWorkflow deletes a workflow, unless executions of it are under way.
type DeleteWorkflow struct {
	ID      string `json:"id"`
	IfMatch int    `json:"if_match,omitempty"`
}

// CreateSource keeps a source for all workflows of a tenant.
type CreateSource struct {
	workflow.Source        // an empty ID lets catalog choose one, src_…
	Name            string `json:"name,omitempty"`
	// Replace turns "exists already" into an update, as Phase 1 does.
	Replace bool `json:"replace,omitempty"`
}

// UpdateSource changes a kept source. Absent fields stay as they are.
type UpdateSource struct {
	ID      string         `json:"id"`
	Name    *string        `json:"name,omitempty"`
	Kind    *string        `json:"kind,omitempty"`
	Config  map[string]any `json:"config,omitempty"` // replaces the whole config
	IfMatch int            `json:"if_match,omitempty"`
}

// DeleteSource deletes a kept source, unless a workflow uses it.
type DeleteSource struct {
	ID      string `json:"id"`
	IfMatch int    `json:"if_match,omitempty"`
}

// InUse is the Details of the CONFLICT that refuses to delete a source.
type InUse struct {
	Workflows []WorkflowRef `json:"workflows"` // the first 100
	Total     int64         `json:"total"`
}

// WorkflowRef names a workflow to a person.
type WorkflowRef struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

// Active is the Details of the CONFLICT that refuses to delete a workflow.
type Active struct {
	Executions []ExecutionID `json:"executions"` // the first 100
	Total      int64         `json:"total"`
}
