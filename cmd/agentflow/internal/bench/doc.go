// Package bench loads a platform and measures it: how many requests it answers, how long each takes, and what one
// execution costs every process that has a part in it.
//
// The client is apart from what is measured. A platform of its own runs in a child process, so that the CPU time of
// either is known; the client itself is as lean as it can be, and says what it has cost.
//
// It is no test: it checks every answer, but only to count those that are wrong.
package bench
