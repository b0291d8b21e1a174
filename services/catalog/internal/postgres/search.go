package postgres

import (
	"slices"
	"strings"
	"unicode"
)

// searchable bounds how much of a description can be found, in characters.
const searchable = 2000

// SearchText is what a search looks at: name and description in one case, with single spaces.
func SearchText(name, description string) string {
	if runes := []rune(description); len(runes) > searchable {
		description = string(runes[:searchable])
	}
	return fold(name + " " + description)
}

// fold makes texts comparable: one case, single spaces, nothing that Postgres refuses.
func fold(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return unicode.ToLower(unicode.ToUpper(r))
	}, s)
	return strings.Join(strings.Fields(s), " ")
}

// Grams are the pairs of characters that stand together in a text: an index over them finds every
// text that may contain another, whatever the language and without an extension of Postgres.
func Grams(s string) []string {
	runes := []rune(s)
	seen := make(map[string]bool, len(runes))
	out := make([]string, 0, len(runes))
	for i := 0; i+1 < len(runes); i++ {
		if g := string(runes[i : i+2]); !seen[g] {
			seen[g] = true
			out = append(out, g)
		}
	}
	slices.Sort(out)
	return out
}

// pattern is the LIKE pattern for texts that contain s.
func pattern(s string) string {
	return "%" + strings.NewReplacer(`\`, `\\`, `%`, `\%`, `_`, `\_`).Replace(s) + "%"
}
