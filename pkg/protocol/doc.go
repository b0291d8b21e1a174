// Package protocol is everything that crosses a wire inside the platform: ids, subjects and
// streams, the events of an execution and of the catalog, the commands, the calls between
// services, and the error codes that users see.
//
// It is pure: values in, values out. It knows no connection, no clock and no store; those who
// send and receive what is defined here are package bus and the services.
//
// A published shape never changes. What must change gets a new version beside the old one, and
// testdata holds one golden document for every version that was ever published.
package protocol
