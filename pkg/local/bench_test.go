package local_test

import (
	"path/filepath"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
)

// What "agentflow up" waits for: a fresh folder costs an initdb, an old one does not.
func BenchmarkPostgresStart(b *testing.B) {
	b.Run("fresh", func(b *testing.B) {
		dir := b.TempDir()
		for i := 0; b.Loop(); i++ {
			startAndStop(b, filepath.Join(dir, strconv.Itoa(i)), (*local.Postgres).Kill)
		}
	})
	for name, end := range map[string]func(*local.Postgres) error{
		"warm":       func(p *local.Postgres) error { return p.Stop(b.Context()) },
		"after kill": (*local.Postgres).Kill,
	} {
		b.Run(name, func(b *testing.B) {
			dir := b.TempDir()
			startAndStop(b, dir, end)
			for b.Loop() {
				startAndStop(b, dir, end)
			}
		})
	}
}

func startAndStop(b *testing.B, dir string, end func(*local.Postgres) error) {
	b.Helper()
	server, err := local.StartPostgres(b.Context(), local.PostgresOptions{Dir: dir})
	require.NoError(b, err)
	b.StopTimer()
	require.NoError(b, end(server))
	require.NoError(b, server.Stop(b.Context()))
	b.StartTimer()
}
