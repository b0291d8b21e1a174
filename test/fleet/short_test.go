//go:build !e2e

package fleet_test

// long is whether the tests take their time: make e2e.
const long = false
