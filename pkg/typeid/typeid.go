// Package typeid makes and checks the platform's identifiers: a prefix that says what the
// thing is, an underscore, and a UUIDv7 as 26 characters of lower-case Crockford base32, for
// example exec_01jd2v8m6hf5qrgq2s9n0w3x4y. They sort by the time of their creation and are
// safe as NATS subject tokens and in URLs. The form follows the TypeID specification 0.3.
package typeid

import (
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const alphabet = "0123456789abcdefghjkmnpqrstvwxyz"

// Length of the part behind the underscore.
const suffixLen = 26

// ErrMalformed is wrapped by every error of Check.
var ErrMalformed = errors.New("malformed id")

// New returns a fresh id with the given prefix ("exec", "wf", "src", "key").
func New(prefix string) string {
	return Format(prefix, uuid.Must(uuid.NewV7()))
}

// Format renders a UUID under a prefix.
func Format(prefix string, u uuid.UUID) string {
	out := make([]byte, len(prefix)+1+suffixLen)
	copy(out, prefix)
	out[len(prefix)] = '_'
	dst := out[len(prefix)+1:]
	// 128 bits as 26 groups of five, the first of which holds only the top three bits.
	var acc uint64
	bits := 2 // two leading zero bits make 130 = 26 × 5
	i := 0
	for _, b := range u {
		acc = acc<<8 | uint64(b)
		bits += 8
		for bits >= 5 {
			bits -= 5
			dst[i] = alphabet[acc>>bits&31]
			i++
		}
	}
	return string(out)
}

// Check reports whether id is a well-formed id of the given prefix.
func Check(prefix, id string) error {
	suffix, ok := strings.CutPrefix(id, prefix+"_")
	if !ok {
		return fmt.Errorf("%w: %q does not start with %q", ErrMalformed, id, prefix+"_")
	}
	if len(suffix) != suffixLen || suffix[0] > '7' {
		return fmt.Errorf("%w: %q needs %d base32 characters after %q", ErrMalformed, id, suffixLen, prefix+"_")
	}
	for i := range len(suffix) {
		if strings.IndexByte(alphabet, suffix[i]) < 0 {
			return fmt.Errorf("%w: %q holds %q, which is not base32", ErrMalformed, id, suffix[i])
		}
	}
	return nil
}
