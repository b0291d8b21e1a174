// Package chaos runs the platform as processes of their own — NATS, Postgres, Redis, and the four services — and lets
// things go wrong while it works: processes are killed, suspended and asked to stop, stores go away and come back, the
// outside is slow, refuses, or hangs. What was accepted must end exactly once, and nothing that was committed may be
// done again.
//
// The short form runs with all tests; `make chaos` runs the long one. AGENTFLOW_CHAOS_SECONDS sets how long things go
// wrong in either, AGENTFLOW_CHAOS_SEED repeats the choices of a run.
package chaos
