package keys

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
)

// prefixLength is how much of a key is kept readable, to tell keys apart: af_ and eight characters,
// which leave 224 of the 256 bits unknown.
const prefixLength = 11

// Secret is a new key, to be shown once.
type Secret struct {
	Key    string // what the client sends
	Hash   string // what is stored: hex SHA-256 of Key
	Prefix string // the first characters, for lists
}

// NewSecret makes a key of 256 random bits.
func NewSecret() Secret {
	var random [32]byte
	_, _ = rand.Read(random[:]) // never fails: it ends the process instead
	key := "af_" + hex.EncodeToString(random[:])
	hash := sha256.Sum256([]byte(key))
	return Secret{Key: key, Hash: hex.EncodeToString(hash[:]), Prefix: key[:prefixLength]}
}
