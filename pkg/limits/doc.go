// Package limits is the caller's side of the limiter: how gateway and executor ask for room, and
// what they do when they do not get any, or no answer.
//
//   - [Client] makes the calls. It bounds each in time, and when the limiter does not answer it
//     decides by policy, open or closed; a limiter that is dead costs its callers nothing.
//   - [Gate] lets in or refuses at once, for the gateway. Asks that come while one is under way
//     travel together in the next, so a busy queue costs one call per batch.
//   - [Queue] waits in line, for the executor: in order of arrival, one ask under way per queue,
//     asked when the limiter said it makes sense, until the caller's deadline.
//
// It counts nothing itself, and holds no permit in stock: what is granted is used at once, so no
// window ever sees more than the limiter let pass in it.
package limits
