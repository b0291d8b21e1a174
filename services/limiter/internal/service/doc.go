// Package service answers the limiter's calls: it checks what comes in, asks Redis, and decides
// by policy while Redis is away. It keeps nothing.
package service
