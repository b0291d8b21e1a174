// Package archive is the form in which commits are kept for ever: packed for a column of a table, and opened again,
// byte for byte.
//
// A packed body says by its first byte how it was packed. What was archived before there was any packing begins as JSON
// begins, and is opened as it stands; so is what packing would not make smaller. A form that was ever written is read
// for ever: a new dictionary gets a new first byte, and the old ones stay.
package archive

import (
	"errors"
	"fmt"
	"sync"

	"github.com/klauspost/compress/s2"
)

// packed is the first byte of an S2 block made with words. JSON cannot begin with it.
const packed = 0x01

// MaxBody bounds what Open gives back, in bytes: more than any message of the log holds. A damaged row may claim anything.
const MaxBody = 64 << 20

// ErrDamaged is returned for what Pack has not made.
var ErrDamaged = errors.New("the archived commit is damaged")

var (
	dictionary = sync.OnceValue(func() *s2.Dict { return s2.MakeDict([]byte(words), nil) })
	scratch    = sync.Pool{New: func() any { return new([]byte) }}
)

// Append adds the packed form of a body to dst.
func Append(dst, body []byte) []byte {
	buffer, _ := scratch.Get().(*[]byte)
	defer scratch.Put(buffer)
	if need := s2.MaxEncodedLen(len(body)); cap(*buffer) < need {
		*buffer = make([]byte, need)
	}
	block := dictionary().Encode((*buffer)[:cap(*buffer)], body)
	// What begins like a packed body must be packed.
	if len(block)+1 >= len(body) && (len(body) == 0 || body[0] != packed) {
		return append(dst, body...)
	}
	return append(append(dst, packed), block...)
}

// Open gives back the body of a packed form. What is not packed it returns as it is, not a copy.
func Open(stored []byte) ([]byte, error) {
	if len(stored) == 0 || stored[0] != packed {
		return stored, nil
	}
	block := stored[1:]
	size, err := s2.DecodedLen(block)
	if err == nil && size > MaxBody {
		err = fmt.Errorf("it claims %d bytes", size)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	body, err := dictionary().Decode(make([]byte, size), block)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return body, nil
}
