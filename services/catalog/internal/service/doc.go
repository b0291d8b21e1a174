// Package service is what catalog does: it carries out commands, answers calls, and keeps the
// tables in step with the log.
//
// A command is an event first and a row second. The handler locks its document in Postgres, checks
// what must hold, appends the event to the CATALOG stream under the fence of the event before it,
// applies it to the tables in the same transaction, and answers. If it dies in between, the
// projector applies the event later; if the same command comes again, it is answered the same.
//
// The projector reads every stream in order, in one process at a time: the leader's. Executions
// are only ever written by it. The janitor trims the hot log behind it.
//
// The package knows no SQL and no subject: those are behind the doors in postgres and bus.
package service
