package bus

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadAck(t *testing.T) {
	t.Parallel()
	seq, refused, err := readAck([]byte(`{"stream":"EXEC_0", "seq":42,"domain":"hub","duplicate":true,"batch":{"id":"x"}}`))
	require.NoError(t, err)
	require.Nil(t, refused)
	require.EqualValues(t, 42, seq)

	_, refused, err = readAck([]byte(`{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 7"},"stream":"EXEC_0","seq":0}`))
	require.NoError(t, err)
	require.EqualValues(t, jsWrongLastSequence, refused.ErrorCode)
	require.Equal(t, 400, refused.Code)
	require.Contains(t, refused.Error(), "wrong last sequence: 7")

	for _, bad := range []string{``, `{}`, `{"stream":"EXEC_0"}`, `{"seq":"x"}`, `{"seq":1`, `{"seq":1} {}`, `[]`, `null`, `{"error":7}`, `-ERR`} {
		_, _, err = readAck([]byte(bad))
		require.Error(t, err, "%s", bad)
	}
}
