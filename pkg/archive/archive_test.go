package archive

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// commit is one of a short execution's two.
const commit = `{"events":[{"type":"node_completed.v1","at":"2026-11-23T04:45:43.438Z","data":{"node":"ask","iteration":0,"attempt":1,"delta":{"value":{"metadata":{"input_node_id":"ask","input_processed":true}}},"edges":[0],"started_at":"2026-11-23T04:45:43.438Z","duration_ms":0}},{"type":"completed.v1","at":"2026-11-23T04:45:43.439Z","data":{"state":{"value":{"user_input":"Where is my refund?"}},"totals":{"tokens_used":0,"cost":"0","nodes_run":1,"duration_ms":1}}}]}`

// stored is commit as the first version packed it.
const stored = `01c703ba7b045032362d31312d32335430343a34353a34332e3433382e2f02246e6f6465223a2261736bba15032e78013e48010d4e524b012e00034a970466b1002e0d018a15034e49000039050062290332b601485768657265206973206d7920726566756e643fd2c801003121c8150008007d`

// What was packed once is opened for ever.
func TestTheFormIsFrozen(t *testing.T) {
	t.Parallel()
	packed, err := hex.DecodeString(stored)
	require.NoError(t, err)
	body, err := Open(packed)
	require.NoError(t, err)
	require.Equal(t, commit, string(body))
	sum := sha256.Sum256([]byte(words))
	require.Equal(t, "617505c547e0d131b05972e125a5c3c4b3a9f2182ade4ccf986055e32ff178e6", hex.EncodeToString(sum[:]),
		"whatever was packed with this dictionary could not be opened any more: make another, with a first byte of its own")
}

func TestWhatWasNeverPacked(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "{}", commit, " \n{}"} {
		got, err := Open([]byte(body))
		require.NoError(t, err)
		require.Equal(t, body, string(got))
	}
}

func TestBackAgain(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 0, 200),
			rapid.Custom(func(t *rapid.T) []byte {
				from := rapid.IntRange(0, len(words)).Draw(t, "from")
				return []byte(words)[from:rapid.IntRange(from, len(words)).Draw(t, "to")]
			}),
			rapid.Map(rapid.IntRange(0, 100_000), func(n int) []byte { return bytes.Repeat([]byte("agentflow "), n/10) }),
		)
		body := bytes.Join(rapid.SliceOfN(part, 0, 5).Draw(t, "parts"), nil)
		before := rapid.SliceOfN(rapid.Byte(), 0, 5).Draw(t, "before")
		packed := Append(bytes.Clone(before), body)
		require.Equal(t, before, packed[:len(before)])
		packed = packed[len(before):]
		require.LessOrEqual(t, len(packed), len(body)+8)
		got, err := Open(packed)
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, got))
	})
}

func TestDamage(t *testing.T) {
	t.Parallel()
	packed := Append(nil, []byte(commit))
	require.Less(t, len(packed), len(commit)/2)
	for n := 1; n < len(packed); n++ {
		_, err := Open(packed[:n])
		require.ErrorIs(t, err, ErrDamaged, "%d bytes of it", n)
	}
	// A length that nobody could have written takes no memory.
	_, err := Open([]byte{1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0})
	require.ErrorIs(t, err, ErrDamaged)
}

func FuzzOpen(f *testing.F) {
	f.Add(Append(nil, []byte(commit)))
	f.Fuzz(func(t *testing.T, stored []byte) {
		body, err := Open(stored)
		if err != nil {
			require.ErrorIs(t, err, ErrDamaged)
			return
		}
		again, err := Open(Append(nil, body))
		require.NoError(t, err)
		require.True(t, bytes.Equal(body, again))
	})
}

func BenchmarkAppend(b *testing.B) {
	body, buffer := []byte(commit), make([]byte, 0, 1024)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		buffer = Append(buffer[:0], body)
	}
	b.ReportMetric(float64(len(buffer)), "bytes")
}

func BenchmarkOpen(b *testing.B) {
	packed := Append(nil, []byte(commit))
	b.SetBytes(int64(len(commit)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Open(packed); err != nil {
			b.Fatal(err)
		}
	}
}
