// Package source speaks to everything outside the platform: language models, image models,
// HTTP APIs and SQL databases.
//
// A source is a document that names a kind, a provider and environment variables; it holds no
// secret. [Sources] resolves the variables under the tenant's policy at the moment of the call,
// dials through the egress guard, makes one attempt and answers with a typed value or an
// [*Error] whose class says what kind of thing went wrong. Retrying is the engine's business:
// only it can write an event for every attempt and hand a long wait to a timer.
//
// Each outside system is one file that registers itself from init. What is registered is what
// [Describe] lists, and the tables in docs/sources.md are compared with it by a test.
//
// The package knows nothing of queues, events or workflows beyond pkg/workflow's Source and
// Values, and it never retries, caches an answer or logs a body.
package source
