package leaktest

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { VerifyTestMain(m) }

func TestFindsWhatIsLeftBehind(t *testing.T) {
	before := goleak.IgnoreCurrent()
	end := make(chan struct{})
	go abandoned(end)
	require.ErrorContains(t, find(0, before), "leaktest.abandoned")
	close(end)
	require.NoError(t, find(patience, before))
}

func abandoned(end <-chan struct{}) { <-end }
