package workflow

import (
	_ "embed"
	"slices"
)

// schema.json is written by hand; a test holds it against what Parse and Validate accept.
//
//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (2020-12) of a workflow document, for editors and other tools. What it refuses is
// wrong. What it accepts may still be: that every reference names something, and that expressions can be read, is
// for [Parse] and [Validate]. Parse in turn takes a few spellings of Phase 1 that the schema does not suggest:
// numbers in quotes, null for what is left out.
func Schema() []byte { return slices.Clone(schema) }
