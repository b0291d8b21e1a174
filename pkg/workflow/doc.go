// Package workflow is the workflow language of AgentFlow: what a workflow document may say,
// and what it means. It is pure: no I/O, no clock, no goroutines. Running a workflow is the
// business of others; this package tells them how.
//
// # From document to plan
//
// [Parse] reads a document into a [Spec] and refuses what is not a workflow at all. [Validate]
// reports everything else that is wrong, at once, for the person who wrote it. [Compile] turns
// a Spec into a [Plan]: names become indexes, conditions programs, and loops are known. A
// [Cache] keeps plans by the hash of their document.
//
// # State
//
// An execution carries one JSON object, its [Values]. A node never changes it; it returns a
// delta, and [Reduce] folds the delta in by the one rule that its key has, so that parallel
// branches add to each other's results instead of overwriting them. What a node writes under a
// key of its own choice goes to outputs, and every read of a key looks in the state first and
// then there.
//
// # Edges, joins and dead paths
//
// When a node ends, [Plan.Taken] says which of its edges are taken; the others are dead. A
// node waits until each of its forward edges ([PlanNode.In]) is taken or dead. When at least
// one is taken it runs, once. When all are dead it does not run, and its own edges are dead
// too. So a join waits for exactly the branches that were chosen.
//
// # Loops
//
// A region of the graph in which every node can reach every other is a loop. Its header is the
// node by which it is first entered; the edges that lead back to the header repeat the loop.
// Without them the region falls apart, and regions that remain are loops inside, with headers
// of their own. So loops nest, and every other edge runs forward only.
//
// The body runs as if it were a workflow of its own, once per iteration. When every node of the
// body has ended or is dead, the loop repeats if an edge back to the header was taken, and has
// ended otherwise. An edge that leaves a loop ([PlanEdge.Exits]) is followed once, when the loop
// has ended: it is taken if it was taken in any iteration, and dead if in none.
//
// # Hostile documents
//
// Documents come from strangers. Sizes, depths, loop nesting, conditions and regular expressions
// are bounded; nothing here recurses without bound or takes more than linear time in the size of
// the document, times those bounds.
package workflow
