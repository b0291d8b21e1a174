//go:build !soak

package load

// backlog is how many executions of one tenant wait.
const backlog = 500
