// Package postgres is the only door to Postgres. It holds the repositories of catalog: what the
// tables look like, and how a transaction gets to see one tenant's rows and no others.
//
// Three things keep tenants apart, and each would do alone: every function takes the tenant, and
// its SQL names it; every transaction sets app.tenant_id and becomes agentflow_tenant, whom the
// row level policies bind; and the login itself has no right to any table. What works for the
// whole platform (projector, janitor, administrators' lists) says so by the name Platform.
//
// The package decides nothing: what may be written is for package service.
package postgres
