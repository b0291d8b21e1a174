// Package fleet runs the platform as it is deployed: NATS servers with authentication and TLS, Postgres, Redis, and any
// number of each service, all as processes of their own with ports of their own.
//
//	f := fleet.Start(t, fleet.Options{})              // two of each service, one NATS server
//	f.Gateways[0].URL, f.Gateways[1].URL              // where clients talk to
//	require.NoError(t, f.Executors[1].Kill())         // accidents
//	require.NoError(t, f.Executors[1].Up(t.Context()))
//
// The NATS servers run with deploy/nats/nats.conf, and the services with the keys and permissions of pkg/bus/access.
package fleet
