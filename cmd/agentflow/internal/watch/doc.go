// Package watch turns the event stream of an execution into something to look at: a tree of its nodes with their times
// and tokens. It reads what the REST API sends and writes to a terminal; it makes no requests of its own.
package watch
