// Package execution is an execution as the fold of its events.
//
// A State starts from the requested event and its compiled plan. Apply adds one event after
// another and never fails: facts happened. Next says what is to be done now: which nodes to run,
// what to wait for, or how to finish. The package runs nothing itself: it has no clock, no
// goroutine and no I/O. The engine in services/executor does what Next says and turns what
// happened into events, which go to the log first and into the State second.
//
// # How a graph is walked
//
// Every edge is open until its node has settled; then it is taken or dead. A node with several
// incoming edges waits until none of them is open. If one was taken it becomes ready, and is run
// once; if all are dead it is dead itself, and so are its outgoing edges.
//
// Loops are known to the plan: regions of nodes that reach each other, with one header. A round
// of a loop ends when all nodes of its body have settled. If an edge back to the header was
// taken in the round, the body is opened again and the header is ready at once; else the loop has
// ended. Edges that leave a loop are settled when it has ended: taken if they were taken in any
// round, else dead. So what stands behind a loop runs once, after it.
//
// State is owned by one goroutine. Values inside it are never changed in place, so a snapshot
// of State.Values may be read by others while the fold goes on.
package execution
