// Package daemon is everything a service needs around its work: configuration from the environment, structured
// logs, metrics, traces, error reports, the admin port, and an orderly end.
//
// A service is one function, and its main is one line:
//
//	func main() { daemon.Main("limiter", limiter.Run) }
//
//	func Run(ctx context.Context, rt *daemon.Runtime, cfg Config) error
//
// Config embeds [Common] and adds its own variables, each a field with the tags env, envDefault, help, and where
// they apply check, secret and empty (see [Load]). [Main] reads and checks all of it at once, builds a [Runtime],
// opens the admin port, and calls Run with a context that ends at SIGTERM. Run wires its parts into a [Group] and
// returns when everything has stopped.
//
// The single-process mode calls the same Run functions with a [Runtime.Service] each. So the package keeps no
// global state: no sentry.Init, no default prometheus registry, no otel.SetTracerProvider. What cannot be avoided,
// signals and the exit code, lives in [Main] alone.
//
// The package knows nothing of NATS, Postgres, Redis or workflows.
package daemon
