package deploy

import (
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// owner makes a superuser with a password, and its database, as the image of Postgres does at its first start.
func owner(t *testing.T, url, user, password, database string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { require.NoError(t, conn.Close(t.Context())) }()
	name := pgx.Identifier{user}.Sanitize()
	var there bool
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", user).Scan(&there))
	if !there {
		_, err = conn.Exec(t.Context(), "CREATE ROLE "+name+" SUPERUSER LOGIN")
		require.NoError(t, err)
	}
	_, err = conn.Exec(t.Context(), "ALTER ROLE "+name+" PASSWORD '"+password+"'")
	require.NoError(t, err)
	require.NoError(t, conn.QueryRow(t.Context(), "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", database).Scan(&there))
	if !there {
		_, err = conn.Exec(t.Context(), "CREATE DATABASE "+pgx.Identifier{database}.Sanitize()+" OWNER "+name)
		require.NoError(t, err)
	}
}

// forward makes a server reachable at another port, until the test ends.
func forward(t *testing.T, from, to string) {
	t.Helper()
	l, err := net.Listen("tcp", from)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = in.Close() }()
				out, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer func() { _ = out.Close() }()
				go func() { _, _ = io.Copy(out, in) }()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
}
