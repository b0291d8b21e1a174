// Package access says who may speak which subjects: one NATS user per service, each with the least that its work
// needs, and read-only users for the integrations of a tenant. It writes them down as the server's configuration, and
// makes the keys and certificates that go with it.
//
// The rules stand here, beside the subjects they are about, and not in a configuration file: a test runs the whole
// platform under them, and another one tries what each user must not do.
package access
