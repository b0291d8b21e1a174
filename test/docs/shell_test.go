package docs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"mvdan.cc/sh/v3/syntax"
)

// command is what a shell would start: the variables it sets, its words, and where it stands.
type command struct {
	env, words []string
	where      string
}

func (c command) String() string { return fmt.Sprintf("%s: %q", c.where, c.words) }

// commands that text would start, those in pipes, lists and substitutions too.
func commands(t *testing.T, text, where string) []command {
	t.Helper()
	file, err := syntax.NewParser().Parse(strings.NewReader(text), where)
	require.NoError(t, err)
	var found []command
	syntax.Walk(file, func(node syntax.Node) bool {
		call, ok := node.(*syntax.CallExpr)
		if !ok || len(call.Args) == 0 {
			return true
		}
		c := command{where: where}
		for _, a := range call.Assigns {
			c.env = append(c.env, a.Name.Value)
		}
		for _, word := range call.Args {
			c.words = append(c.words, plain(t, word.Parts))
		}
		found = append(found, c)
		return true
	})
	return found
}

// plain is a word without its quotes; what a shell would put in stands as "1", which is a name, a number and an address.
func plain(t *testing.T, parts []syntax.WordPart) string {
	t.Helper()
	var word strings.Builder
	for _, part := range parts {
		switch p := part.(type) {
		case *syntax.Lit:
			word.WriteString(p.Value)
		case *syntax.SglQuoted:
			word.WriteString(p.Value)
		case *syntax.DblQuoted:
			word.WriteString(plain(t, p.Parts))
		default:
			word.WriteString("1")
		}
	}
	return word.String()
}
