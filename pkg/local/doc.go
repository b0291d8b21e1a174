// Package local runs the backends of a laptop: a private Postgres and a private Redis, as children of this
// process, on free loopback ports, with their data in a folder of the caller's.
//
// It finds programs that are installed, prepares a data folder, starts the server as a user it accepts (Postgres
// refuses root), waits until it answers, carries its output to the log and stops it. A child never outlives its
// parent: on Linux the kernel ends it even when the parent is killed with -9; elsewhere the next start does.
//
// It is not a way to run a database in production, knows nothing of schemas or tenants, and never falls back in
// silence: a missing program is [ErrNoPostgres] or [ErrNoRedis], and the stand-in and the download are things a
// caller asks for.
//
//	pg, err := local.StartPostgres(ctx, local.PostgresOptions{Dir: filepath.Join(data, "postgres"), Log: log})
//	if err != nil {
//		return err
//	}
//	defer pg.Stop(stopCtx)
//	connect(pg.URL())
//
// What is kept in a folder: the cluster (Postgres only), the port, the password, and a lock that says who uses it.
package local
