// Package docs holds the documentation to its word: blocks marked "sh run" are run, page by page, on a real platform, every
// other command names programs, flags, files, targets and paths that exist, and links lead somewhere.
package docs
