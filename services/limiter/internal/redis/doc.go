// Package redis is the only door to Redis: the script that decides, the keys it decides on, and
// what happens when Redis does not answer.
//
// Every decision is one run of limits.lua, atomic, on Redis's own clock, over keys that share one
// hash tag. The door bounds each run in time and counts failures; after a few in a row it stays
// shut, so that a dead Redis costs its callers nothing, and [Door.Watch] opens it again once Redis
// takes writes. What to answer meanwhile is not decided here: callers get [ErrAway].
package redis
