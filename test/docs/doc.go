// Package docs holds the documentation to its word: blocks marked "sh run" are run, page by page, on a real platform,
// commands in the other blocks exist with the flags that they are given, and links lead somewhere.
package docs
