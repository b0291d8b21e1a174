package api

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/valyala/fasthttp"

	"github.com/agentflow/agentflow/pkg/workflow"
	"github.com/agentflow/agentflow/services/gateway/contract"
)

// TestDocument reads the document as tools do: its structure, its references, and that its examples
// are what its schemas ask for.
func TestDocument(t *testing.T) {
	raw, err := bare(t).openAPIDocument()
	require.NoError(t, err)
	if *updateDocs {
		require.NoError(t, os.WriteFile("assets/openapi.json", raw, 0o600))
	} else {
		require.Equal(t, string(raw), string(writtenDocument), "the API has changed: -update writes assets/openapi.json")
	}
	require.NoError(t, contract.Validate(t.Context(), raw))
	c, err := contract.Load(raw)
	require.NoError(t, err)
	examples, err := c.Examples()
	require.NoError(t, err)
	bodies := map[string]bool{}
	for _, e := range examples {
		bodies[e.Operation] = true
	}
	for path, item := range at(c.Document, "paths") {
		for method, op := range item.(object) {
			o := op.(object)
			require.NotEmpty(t, o["summary"], "%s %s", method, path)
			require.NotEmpty(t, o["description"], "%s %s", method, path)
			require.NotEmpty(t, o["tags"], "%s %s", method, path)
			require.NotEmpty(t, o["operationId"], "%s %s", method, path)
			if _, takes := o["requestBody"]; takes {
				require.True(t, bodies[o["operationId"].(string)], "%s %s has no example of its body", method, path)
			}
			exampleOfSuccess(t, o)
		}
	}
}

func exampleOfSuccess(t *testing.T, op object) {
	t.Helper()
	for status, r := range at(op, "responses") {
		if status >= "300" {
			continue
		}
		media := at(at(r.(object), "content"), "application/json")
		require.Contains(t, media, "example", "%s %s has no example; the test of the documented examples in test/e2e writes it with -update", op["operationId"], status)
	}
}

var updateDocs = flag.Bool("update", false, "rewrite docs/errors.md and assets/openapi.json")

const (
	errorsPage  = "../../../../docs/errors.md"
	errorsTable = "<!-- The table is written by a test of the gateway from its registry. -->\n"
)

// TestProblems holds the registry of problems against the codes that there are, and docs/errors.md against the
// registry.
func TestProblems(t *testing.T) {
	var table strings.Builder
	table.WriteString("| status | code | what it says | what to do |\n| --- | --- | --- | --- |\n")
	known := map[string]bool{}
	for _, p := range problems {
		require.False(t, known[string(p.code)], "%s is in the registry twice", p.code)
		known[string(p.code)] = true
		require.NotEmpty(t, p.title)
		require.NotEmpty(t, p.example)
		require.NotEmpty(t, p.advice)
		fmt.Fprintf(&table, "| %d | `%s` | %s | %s |\n", p.status, p.code, p.title, p.advice)
	}
	codes := codesIn(t, "../../../../pkg/protocol/errors.go", "problem.go")
	for _, code := range codes {
		require.True(t, known[code], "%s is not in the registry", code)
	}
	require.Len(t, known, len(codes), "the registry holds a code that nobody declares")

	page, err := os.ReadFile(errorsPage)
	require.NoError(t, err)
	before, _, found := strings.Cut(string(page), errorsTable)
	require.True(t, found)
	want := before + errorsTable + "\n" + table.String()
	if *updateDocs {
		require.NoError(t, os.WriteFile(errorsPage, []byte(want), 0o600))
		return
	}
	require.Equal(t, want, string(page), "docs/errors.md is not what the registry says; -update writes it")
}

// codesIn reads the codes that source files declare.
func codesIn(t *testing.T, files ...string) []string {
	t.Helper()
	var codes []string
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		require.NoError(t, err)
		ast.Inspect(f, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok || !strings.HasPrefix(strings.ToLower(spec.Names[0].Name), "code") || len(spec.Values) == 0 {
				return true
			}
			text, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			codes = append(codes, text)
			return true
		})
	}
	require.Greater(t, len(codes), 20)
	return codes
}

// TestUnknownCode: a code that this gateway does not know, of a newer service, is our fault, not the client's.
func TestUnknownCode(t *testing.T) {
	require.Equal(t, 500, newProblem("FROM_THE_FUTURE", "x").Status)
}

// BenchmarkOpenAPIDocument is what a reader of /openapi.json waits for.
func BenchmarkOpenAPIDocument(b *testing.B) {
	s := bare(b)
	serve := s.app.Handler()
	for b.Loop() {
		var c fasthttp.RequestCtx
		c.Request.SetRequestURI("/openapi.json")
		serve(&c)
		require.Equal(b, 200, c.Response.StatusCode())
	}
}

// TestSchemaIsServed: editors find the schema of workflow documents, with its media type.
func TestSchemaIsServed(t *testing.T) {
	s := bare(t)
	resp, err := s.app.Test(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/schemas/workflow.json", http.NoBody))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	require.Equal(t, http.StatusOK, resp.StatusCode)
	require.Equal(t, "application/schema+json", resp.Header.Get("Content-Type"))
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, workflow.Schema(), body)
}

// TestDocumentNamesItsVersion: what is served says which gateway serves it.
func TestDocumentNamesItsVersion(t *testing.T) {
	s := bare(t)
	resp, err := s.app.Test(httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/openapi.json", http.NoBody))
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	var doc struct {
		Info struct {
			Version string `json:"version"`
		} `json:"info"`
	}
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&doc))
	require.Equal(t, s.rt.Version, doc.Info.Version)
}
