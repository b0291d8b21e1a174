package engine

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// Everything given to a crew is done, however much of it waits for something else that was given to it.
func TestCrewNeverWaitsForAFreeHand(t *testing.T) {
	t.Parallel()
	c := newCrew()
	var all sync.WaitGroup
	all.Add(100)
	for range 100 {
		c.do(func() { all.Done(); all.Wait() })
	}
	c.dismiss()
	c.do(all.Wait) // also afterwards
	c.all.Wait()
}

func TestCrewRests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCrew()
		did := 0
		for range 3 { // the second finds the first one's goroutine, the third comes after it has ended
			c.do(func() { did++ })
			synctest.Wait()
			if did == 2 {
				time.Sleep(2 * rest) //nolint:forbidigo // in a bubble
			}
		}
		require.Equal(t, 3, did)
		c.dismiss() // a goroutine that stayed would hang the bubble
	})
}
