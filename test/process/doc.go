// Package process is what tests that start real processes have in common: binaries built from the work tree, a clean
// environment, a leash that no process outlives, and the end of a log.
package process
