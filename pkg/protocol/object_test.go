package protocol_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

func TestObjectForms(t *testing.T) {
	t.Parallel()
	values := workflow.Values{"a": json.Number("1.50"), "b": "<x>"}
	for name, c := range map[string]struct {
		in     protocol.Object
		wire   string
		values workflow.Values
		zero   bool
	}{
		"values":   {in: protocol.ObjectOf(values), wire: `{"value":{"a":1.50,"b":"\u003cx\u003e"}}`, values: values},
		"raw":      {in: raw(`{"a": 1.50, "b":"<x>"}`), wire: `{"value":{"a":1.50,"b":"\u003cx\u003e"}}`, values: values},
		"empty":    {in: protocol.ObjectOf(workflow.Values{}), wire: `{"value":{}}`, values: workflow.Values{}},
		"zero":     {wire: `{}`, values: workflow.Values{}, zero: true},
		"nil":      {in: protocol.ObjectOf(nil), wire: `{}`, values: workflow.Values{}, zero: true},
		"resolved": {in: protocol.ReferTo("acme/obj_1", 17).Resolved([]byte(`{"a":1.50,"b":"<x>"}`)), wire: `{"ref":"acme/obj_1","bytes":17}`, values: values},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(c.in)
			require.NoError(t, err)
			require.Equal(t, c.wire, string(got))
			require.Equal(t, c.zero, c.in.IsZero())
			v, err := c.in.Values()
			require.NoError(t, err)
			require.Equal(t, c.values, v)
			doc, err := c.in.Raw()
			require.NoError(t, err)
			v, err = workflow.DecodeValues(doc)
			require.NoError(t, err)
			require.Equal(t, c.values, v)

			var back protocol.Object
			require.NoError(t, json.Unmarshal(got, &back))
			require.Equal(t, c.zero, back.IsZero(), "what was absent stays absent")
			require.Equal(t, c.in.Ref, back.Ref)
			require.Equal(t, c.in.Bytes, back.Bytes)
			if c.in.Ref == "" {
				v, err = back.Values()
				require.NoError(t, err)
				require.Equal(t, c.values, v)
			}
		})
	}
}

func TestUnresolvedObject(t *testing.T) {
	t.Parallel()
	o := protocol.ReferTo("acme/obj_1", 17)
	require.False(t, o.IsZero())
	_, err := o.Values()
	require.ErrorIs(t, err, protocol.ErrUnresolved)
	_, err = o.Raw()
	require.ErrorIs(t, err, protocol.ErrUnresolved)
}

func TestObjectsThatAreNone(t *testing.T) {
	t.Parallel()
	var o protocol.Object
	require.Error(t, json.Unmarshal([]byte(`[]`), &o))
	require.NoError(t, json.Unmarshal([]byte(`{"value":null}`), &o))
	require.True(t, o.IsZero())
	require.NoError(t, json.Unmarshal([]byte(`{"value":[1]}`), &o))
	_, err := o.Values()
	require.ErrorContains(t, err, "JSON object")
}
