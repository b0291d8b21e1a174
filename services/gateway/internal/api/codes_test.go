package api

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestCodesAreDeclaredOnce: a code is written out where TestProblems looks for it, and nowhere else: every service takes the
// constants of package protocol, so the same error cannot have two names, nor a name that the registry does not know.
func TestCodesAreDeclaredOnce(t *testing.T) {
	root := filepath.Join("..", "..", "..", "..")
	declared := map[string]bool{"pkg/protocol/errors.go": true, "services/gateway/internal/api/problem.go": true}
	used := 0
	for _, folder := range []string{"pkg", "services", "cmd"} {
		require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(path string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
				return err
			}
			rel, err := filepath.Rel(root, path)
			if err != nil || declared[filepath.ToSlash(rel)] {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, 0)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if name, ok := n.(*ast.SelectorExpr); ok && strings.HasPrefix(name.Sel.Name, "Code") && isName(name.X, "protocol") {
					used++
				}
				for _, literal := range codesWritten(n) {
					require.Fail(t, "a code is written out", "%s: %s", files.Position(literal.Pos()), literal.Value)
				}
				return true
			})
			return nil
		}))
	}
	require.Greater(t, used, 50)
}

var codeLiteral = regexp.MustCompile(`^["\x60][A-Z_]+["\x60]$`)

// codesWritten are the literals that stand for a code in a conversion, a refusal, a constant, an error or a failure.
func codesWritten(n ast.Node) (literals []*ast.BasicLit) {
	take := func(list ...ast.Expr) {
		for _, e := range list {
			if literal, ok := e.(*ast.BasicLit); ok && codeLiteral.MatchString(literal.Value) {
				literals = append(literals, literal)
			}
		}
	}
	switch n := n.(type) {
	case *ast.CallExpr:
		if isName(n.Fun, "Code") || isName(n.Fun, "refuse") || isName(n.Fun, "newProblem") {
			take(n.Args[:min(1, len(n.Args))]...)
		}
	case *ast.ValueSpec:
		if n.Type != nil && isName(n.Type, "Code") {
			take(n.Values...)
		}
	case *ast.CompositeLit:
		if n.Type == nil || !isName(n.Type, "Failure") && !isProtocol(n.Type, "Error") {
			break
		}
		for _, e := range n.Elts {
			if pair, ok := e.(*ast.KeyValueExpr); ok && isName(pair.Key, "Code") {
				take(pair.Value)
			}
		}
	}
	return literals
}

// isName tells whether an expression is a name, of this package or of another.
func isName(e ast.Expr, name string) bool {
	if selector, ok := e.(*ast.SelectorExpr); ok {
		e = selector.Sel
	}
	identifier, ok := e.(*ast.Ident)
	return ok && identifier.Name == name
}

func isProtocol(e ast.Expr, name string) bool {
	selector, ok := e.(*ast.SelectorExpr)
	return ok && selector.Sel.Name == name && isName(selector.X, "protocol")
}
