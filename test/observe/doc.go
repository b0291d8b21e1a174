// Package observe looks at the platform as its operators do: traces in a collector, metrics on the admin port, and the
// dashboard and the alert rules of deploy/observability, whose queries are held against what is really exposed.
package observe
