package protocol_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestTime(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		in := time.Unix(rapid.Int64Range(-60_000_000_000, 250_000_000_000).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns"))
		want := protocol.At(in)
		doc, err := json.Marshal(want)
		require.NoError(t, err)
		require.Len(t, doc, len(protocol.TimeFormat)+2)
		require.Equal(t, `"`+want.String()+`"`, string(doc))
		var got protocol.Time
		require.NoError(t, json.Unmarshal(doc, &got))
		require.Equal(t, want, got)
		require.LessOrEqual(t, in.Sub(got.Time), time.Millisecond)
	})
	var got protocol.Time
	require.NoError(t, json.Unmarshal([]byte(`"2026-01-02T03:04:05.123456+02:00"`), &got))
	require.Equal(t, "2026-01-02T01:04:05.123Z", got.String())
	require.NoError(t, json.Unmarshal([]byte(`null`), &got))
	require.True(t, got.IsZero())
	doc, err := json.Marshal(got)
	require.NoError(t, err)
	require.Equal(t, "null", string(doc))
	for _, bad := range []string{`1767323045`, `"2026-01-02"`, `""`, `{}`, `"9999-12-31T23:59:59-10:00"`, `"0000-01-01T00:00:00+10:00"`} {
		require.Error(t, json.Unmarshal([]byte(bad), &got), bad)
	}
	_, err = json.Marshal(protocol.At(time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)))
	require.Error(t, err, "nobody could read it")
}

func TestTokenIsInjectiveAndSafe(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[a.=*> 3D\x00é_-]{0,6}`))
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "a"), text.Draw(t, "b")
		ta, tb := protocol.Token(a), protocol.Token(b)
		require.Equal(t, a == b, ta == tb, "%q %q", ta, tb)
		require.NotEmpty(t, ta)
		require.False(t, strings.ContainsAny(ta, ".*> \t\r\n\x00"), ta)
	})
	for in, want := range map[string]string{"": "=", "a-B_9": "a-B_9", "a.b": "a=2Eb", "=": "=3D", "é": "=C3=A9"} {
		require.Equal(t, want, protocol.Token(in))
	}
}

func TestTenantIDs(t *testing.T) {
	t.Parallel()
	for _, ok := range []string{"a", "0", "acme", "a-b_c", strings.Repeat("x", 63)} {
		require.NoError(t, protocol.TenantID(ok).Check(), ok)
	}
	for _, bad := range []string{"", "A", "-a", "_a", "a.b", "a b", "a*", ">", "é", "a\n", strings.Repeat("x", 64)} {
		err := protocol.TenantID(bad).Check()
		require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeInvalid}, bad)
		require.Equal(t, protocol.CodeInvalid, protocol.CodeOf(err))
	}
}

func TestExecutionSubjects(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		parts := rapid.IntRange(1, 64).Draw(t, "partitions")
		tenant := protocol.TenantID(rapid.StringMatching(`[a-z0-9][a-z0-9_-]{0,62}`).Draw(t, "tenant"))
		id := protocol.ExecutionID("exec_" + rapid.StringMatching(`[0-9a-z]{1,26}`).Draw(t, "id"))
		key := protocol.KeyOf(parts, tenant, id)
		require.Equal(t, key, protocol.KeyOf(parts, tenant, id))
		require.GreaterOrEqual(t, key.Partition, 0)
		require.Less(t, key.Partition, parts)
		for subject, first := range map[string]bool{key.Requested(): true, key.Log(): false} {
			got, requested, err := protocol.ParseExecutionSubject(subject)
			require.NoError(t, err)
			require.Equal(t, key, got)
			require.Equal(t, first, requested)
			require.True(t, strings.HasPrefix(subject, strings.TrimSuffix(key.All(), "*")))
			require.True(t, strings.HasPrefix(subject, strings.TrimSuffix(protocol.PartitionSubjects(key.Partition), ">")))
		}
		require.Equal(t, fmt.Sprintf("EXECUTIONS_%d", key.Partition), key.Stream())
	})
	for _, bad := range []string{
		"", "agentflow.execution.", "agentflow.execution.0.acme.exec_1", "agentflow.execution.0.acme.exec_1.other",
		"agentflow.execution.x.acme.exec_1.log", "agentflow.execution.-1.acme.exec_1.log", "agentflow.execution.01.acme.exec_1.log",
		"agentflow.execution.+1.acme.exec_1.log", "agentflow.execution.0..exec_1.log", "agentflow.execution.0.acme..log",
		"agentflow.execution.0.acme.exec_1.log.more", "other.execution.0.acme.exec_1.log",
	} {
		_, _, err := protocol.ParseExecutionSubject(bad)
		require.Error(t, err, bad)
	}
}

// The hash decides where an execution stands for ever: were it to change, nobody would find the old ones.
func TestPartitionsStayWhereTheyAre(t *testing.T) {
	t.Parallel()
	for id, want := range map[protocol.ExecutionID]int{"exec_1": 0, "exec_2": 1, "exec_3": 6, "exec_01jx3v7k2m8q4r5s6t7w8x9y0z": 3} {
		require.Equal(t, want, protocol.KeyOf(8, "acme", id).Partition, id)
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	err := fmt.Errorf("look up: %w", &protocol.Error{Code: protocol.CodeNotFound, Message: "no such workflow"})
	require.ErrorIs(t, err, &protocol.Error{Code: protocol.CodeNotFound})
	require.NotErrorIs(t, err, &protocol.Error{Code: protocol.CodeConflict})
	require.Equal(t, protocol.CodeNotFound, protocol.CodeOf(err))
	require.Equal(t, protocol.CodeInternal, protocol.CodeOf(errors.New("what")))
	require.Empty(t, protocol.CodeOf(nil))
	require.Equal(t, "NOT_FOUND: no such workflow", (&protocol.Error{Code: protocol.CodeNotFound, Message: "no such workflow"}).Error())
	require.Equal(t, "node a: no", protocol.Failure{Node: "a", Message: "no"}.Error())
	require.Equal(t, "no", protocol.Failure{Message: "no"}.Error())
}

const shop = `{
	"start_node": "a", "x-owner": "me & <you>", "name": "shop",
	"nodes": [{"id": "a", "type": "llm", "metadata": {"source_id": "gpt", "prompt": "hi"}}],
	"sources": [{"id": "own", "kind": "api", "config": {"base_url": "http://x", "timeout": 1.50}, "note": "kept"}]
}`

func TestResolve(t *testing.T) {
	t.Parallel()
	spec, err := workflow.Parse([]byte(shop))
	require.NoError(t, err)
	kept := []workflow.Source{
		{ID: "gpt", Kind: "llm", Config: map[string]any{"model": "m", "temperature": json.Number("0.70")}},
		{ID: "own", Kind: "llm", Config: map[string]any{}}, // the spec's own source of that name stays
	}
	for name, sources := range map[string][]workflow.Source{"with": kept, "only known": kept[1:], "without": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			doc, err := protocol.Resolve(spec, sources)
			require.NoError(t, err)
			resolved, err := workflow.Parse(doc)
			require.NoError(t, err)
			require.Equal(t, spec.Nodes, resolved.Nodes)
			own, ok := resolved.Source("own")
			require.True(t, ok)
			require.Equal(t, "api", own.Kind)
			_, ok = resolved.Source("gpt")
			require.Equal(t, len(sources) == 2, ok)
			for _, text := range []string{`"note":"kept"`, `"timeout":1.50`, `me \u0026 \u003cyou\u003e`} {
				require.Contains(t, string(doc), text)
			}
			if len(sources) == 2 {
				report := workflow.Validate(resolved, workflow.Known{})
				require.True(t, report.Valid, "%v", report.Errors)
				require.Contains(t, string(doc), `"temperature":0.70`)
			}
			again, err := protocol.Resolve(spec, sources)
			require.NoError(t, err)
			require.Equal(t, doc, again, "the same spec has the same hash")

			// The hash of what arrives in an event is the hash of what was sent.
			body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{{Event: protocol.Requested{Spec: protocol.VerbatimOf([]byte(doc))}}}})
			require.NoError(t, err)
			c, err := protocol.DecodeCommit("c", body)
			require.NoError(t, err)
			require.Equal(t, string(doc), read(t, c.Events[0].Event.(protocol.Requested).Spec))
		})
	}
}

func read(t require.TestingT, v protocol.Verbatim) string {
	doc, err := v.Document()
	require.NoError(t, err)
	return string(doc)
}

func TestVerbatimKeepsEveryByte(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		doc := rapid.OneOf(rapid.Just(shop), rapid.String()).Draw(t, "doc")
		body, err := protocol.EncodeCommit(protocol.Commit{Events: []protocol.Stamped{
			{Event: protocol.Requested{Spec: protocol.VerbatimOf([]byte(doc))}},
			{Event: protocol.Carried{Requested: protocol.Requested{Spec: protocol.VerbatimOf([]byte(doc))}, Snapshot: json.RawMessage(`{}`)}},
		}})
		require.NoError(t, err)
		c, err := protocol.DecodeCommit("c", body)
		require.NoError(t, err)
		require.Equal(t, doc, read(t, c.Events[0].Event.(protocol.Requested).Spec))
		require.Equal(t, doc, read(t, c.Events[1].Event.(protocol.Carried).Requested.Spec))
	})
}

func TestLastEventOfACommit(t *testing.T) {
	t.Parallel()
	long := protocol.ObjectOf(workflow.Values{"text": strings.Repeat("x", 10_000)}) // more than the first buffer of the writer
	c := protocol.Commit{Events: []protocol.Stamped{
		{At: protocol.At(time.Unix(1_700_000_000, 0)), Event: protocol.NodeCompleted{Node: "a", Delta: long}},
		{At: protocol.At(time.Unix(1_700_000_000, 0)), Event: protocol.Completed{State: long}},
	}}
	require.NoError(t, c.Encode())
	got, err := protocol.DecodeCommit("c", c.Last())
	require.NoError(t, err)
	alone := protocol.Commit{Events: c.Events[1:]}
	require.NoError(t, alone.Encode())
	require.Equal(t, string(alone.Body), string(c.Last()))
	require.Len(t, got.Events, 1)

	require.NoError(t, alone.Encode(), "again")
	require.Equal(t, string(alone.Body), string(alone.Last()))
}
