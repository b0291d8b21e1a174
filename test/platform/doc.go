// Package platform runs the real thing for tests: it builds the agentflow binary once per test process, starts
// `agentflow up` on a data folder, and gives it orders from outside, by HTTP and by signals, as users and accidents do.
//
// It knows the binary by its command line and the line of JSON it prints, and nothing of what is inside.
package platform
