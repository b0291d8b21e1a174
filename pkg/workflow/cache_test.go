package workflow_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func document(i int) []byte {
	return fmt.Appendf(nil, `{"name":"w%d","start_node":"a","nodes":[{"id":"a","type":"input"}]}`, i)
}

func never() ([]byte, error) { return nil, errors.New("asked for a document that should be cached") }

func TestCacheKeepsTheLatest(t *testing.T) {
	t.Parallel()
	c := workflow.NewCache(2)
	get := func(i int) {
		t.Helper()
		p, err := c.Plan(workflow.Hash(document(i)), func() ([]byte, error) { return document(i), nil })
		require.NoError(t, err)
		require.Equal(t, fmt.Sprintf("w%d", i), p.Spec.Name)
	}
	get(1)
	get(2)
	get(1) // 2 is now the oldest
	get(3)
	require.Equal(t, 2, c.Len())
	for _, kept := range []int{1, 3} {
		_, err := c.Plan(workflow.Hash(document(kept)), never)
		require.NoError(t, err)
	}
	_, err := c.Plan(workflow.Hash(document(2)), never)
	require.ErrorContains(t, err, "should be cached")
}

func TestCacheRefuses(t *testing.T) {
	t.Parallel()
	c := workflow.NewCache(0)
	for name, doc := range map[string]string{
		"another document": `{"x":1}`,
		"no workflow":      `{"start_node":1}`,
		"invalid":          `{"start_node":"a","nodes":[{"id":"a","type":"llm"}]}`,
	} {
		hash := workflow.Hash([]byte(doc))
		if name == "another document" {
			hash = workflow.Hash([]byte("asked for"))
		}
		_, err := c.Plan(hash, func() ([]byte, error) { return []byte(doc), nil })
		require.ErrorContains(t, err, hash)
		require.Zero(t, c.Len(), "nothing bad is kept")
	}
}

func TestCacheFromManyGoroutines(t *testing.T) {
	t.Parallel()
	c := workflow.NewCache(3)
	var all sync.WaitGroup
	for worker := range 8 {
		all.Go(func() {
			for i := range 50 {
				n := (worker + i) % 5
				p, err := c.Plan(workflow.Hash(document(n)), func() ([]byte, error) { return document(n), nil })
				if err != nil || p.Spec.Name != fmt.Sprintf("w%d", n) {
					t.Errorf("plan of w%d: %v", n, err)
				}
			}
		})
	}
	all.Wait()
	require.Equal(t, 3, c.Len())
}

// More conditions than are kept, and again: each decides as it says, whoever compiled it.
func TestConditionsAreKeptApart(t *testing.T) {
	t.Parallel()
	for range 2 {
		for i := range 1500 {
			spec := fmt.Appendf(nil, `{"start_node":"a","nodes":[{"id":"a","type":"input"},{"id":"b","type":"aggregator"}],`+
				`"edges":[{"from":"a","to":"b","condition":"tokens_used == %d"}]}`, i)
			parsed, err := workflow.Parse(spec)
			require.NoError(t, err)
			plan, err := workflow.Compile(parsed)
			require.NoError(t, err)
			for tokens, want := range map[int]int{i: 1, i + 1: 0} {
				taken, err := plan.Taken(0, workflow.Outcome{}, workflow.NewValues(workflow.Values{"tokens_used": json.Number(strconv.Itoa(tokens))}))
				require.NoError(t, err)
				require.Len(t, taken, want)
			}
		}
	}
}
