package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The time that is none in Go is a time in JSON, and long past: a key must not live for ever because of it.
func TestOnlyNullIsNever(t *testing.T) {
	for text, never := range map[string]bool{
		`null`: true, `"0001-01-01T00:00:00Z"`: false, `"0001-01-01T00:00:00.0004Z"`: false, `"2020-01-01T00:00:00Z"`: false,
	} {
		var e Expiry
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		require.True(t, e.given)
		require.Equal(t, never, e.never, text)
		require.False(t, end(e.at).IsZero(), text)
		require.True(t, end(e.at).Before(time.Now()), text)
	}
}
