// Package bus is the only door to NATS. It knows streams, subjects and headers, so that the
// services speak of commits, jobs, commands and calls.
//
//   - Append and Load write and read the log of one execution; Append is fenced.
//   - Jobs hands out requested executions, Commands catalog's work, Project whole partitions.
//   - Request and Serve are the calls between services, over the micro package.
//   - Specs, Objects and Keep are the buckets.
//
// It is no general NATS client: what the platform does not say, it cannot send.
package bus
