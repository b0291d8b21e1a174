package contract_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/services/gateway/contract"
)

const document = `{"openapi":"3.1.0","info":{"title":"t","version":"1"},
"paths":{
 "/things/{id}":{"get":{"operationId":"get-thing","parameters":[{"name":"id","in":"path","required":true,"schema":{"type":"string"}}],
  "responses":{"200":{"description":"ok","content":{"application/json":{"schema":{"$ref":"#/components/schemas/Thing"}}}},"404":{"$ref":"#/components/responses/Gone"}}}},
 "/things/all":{"post":{"operationId":"make","requestBody":{"content":{"application/json":{"schema":{"$ref":"#/components/schemas/Thing"},"examples":{"one":{"value":{"name":"x"}}}}}},
  "responses":{"201":{"description":"made","content":{"text/event-stream":{"schema":{"type":"string"}}}}}}}},
"components":{"responses":{"Gone":{"description":"gone","content":{"application/problem+json":{"schema":{"$ref":"#/components/schemas/Problem"}}}}},
 "schemas":{"Thing":{"type":"object","required":["name"],"additionalProperties":false,"properties":{"name":{"type":["string","null"]},"at":{"type":"string","format":"date-time"}}},
  "Problem":{"type":"object","required":["code"]},"FrozenError":{"type":"object","required":["detail"]}}}}`

func TestCheck(t *testing.T) {
	c, err := contract.Load([]byte(document))
	require.NoError(t, err)
	require.NoError(t, contract.Validate(t.Context(), []byte(document)))
	const plain, problem = "application/json", "application/problem+json"
	for name, a := range map[string]struct {
		answer contract.Answer
		wrong  string // what is said; "" when it is right
	}{
		"right":              {contract.Answer{"GET", "/things/7", 200, plain, []byte(`{"name":null}`)}, ""},
		"with a charset":     {contract.Answer{"GET", "/things/7", 200, plain + "; charset=utf-8", []byte(`{"name":"x"}`)}, ""},
		"by reference":       {contract.Answer{"GET", "/things/7", 404, problem, []byte(`{"code":"X"}`)}, ""},
		"a stream":           {contract.Answer{"POST", "/things/all", 201, "text/event-stream", nil}, ""},
		"no such address":    {contract.Answer{"GET", "/nothing", 404, problem, []byte(`{"code":"X"}`)}, ""},
		"no such method":     {contract.Answer{"PUT", "/things/7", 405, problem, []byte(`{"code":"X"}`)}, ""},
		"of Phase 1":         {contract.Answer{"GET", "/api/v1/nothing", 404, plain, []byte(`{"detail":"Not Found"}`)}, ""},
		"undocumented route": {contract.Answer{"GET", "/nothing", 200, plain, []byte(`{}`)}, "no operation"},
		"status":             {contract.Answer{"GET", "/things/7", 418, problem, []byte(`{"code":"X"}`)}, "status is not documented"},
		"media type":         {contract.Answer{"GET", "/things/7", 200, problem, []byte(`{"name":"x"}`)}, "media type"},
		"no media type":      {contract.Answer{"GET", "/things/7", 200, "", []byte(`{"name":"x"}`)}, "media type"},
		"missing field":      {contract.Answer{"GET", "/things/7", 200, plain, []byte(`{}`)}, "name"},
		"unknown field":      {contract.Answer{"GET", "/things/7", 200, plain, []byte(`{"name":"x","secret":1}`)}, "secret"},
		"wrong type":         {contract.Answer{"GET", "/things/7", 200, plain, []byte(`{"name":1}`)}, "name"},
		"wrong format":       {contract.Answer{"GET", "/things/7", 200, plain, []byte(`{"name":"x","at":"noon"}`)}, "date-time"},
		"no JSON":            {contract.Answer{"GET", "/things/7", 200, plain, []byte(`<html>`)}, "not JSON"},
		"error without code": {contract.Answer{"GET", "/things/7", 404, problem, []byte(`{}`)}, "code"},
		"error of no shape":  {contract.Answer{"GET", "/nothing", 404, "text/plain", []byte(`oh`)}, "media type"},
	} {
		t.Run(name, func(t *testing.T) {
			err := c.Check(a.answer)
			if a.wrong == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, a.wrong)
		})
	}
	examples, err := c.Examples()
	require.NoError(t, err)
	require.Equal(t, []contract.Example{{"POST", "/things/all", "make", "one", []byte(`{"name":"x"}`)}}, examples)
}

func TestWrongDocuments(t *testing.T) {
	for _, broken := range []string{
		`{`, `[]`, `{"openapi":"3.1.0"}`,
		strings.Replace(document, `"value":{"name":"x"}`, `"value":{"nom":"x"}`, 1),
		strings.Replace(document, "#/components/responses/Gone", "#/components/responses/Here", 1),
	} {
		require.Error(t, contract.Validate(t.Context(), []byte(broken)), broken)
	}
	for _, broken := range []string{`{`, `[]`} {
		_, err := contract.Load([]byte(broken))
		require.Error(t, err, broken)
	}
}

// TestTransport: an answer passes unchanged, and what is wrong with it is reported.
func TestTransport(t *testing.T) {
	body := `{"name":"x"}`
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/openapi.json" {
			_, _ = io.WriteString(w, document)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, body)
	}))
	defer server.Close()
	var reported []error
	wire := contract.Transport{
		Base: server.Client().Transport, Report: func(err error) { reported = append(reported, err) },
		Contract: func(base string) (*contract.Contract, error) {
			raw, err := contract.Fetch(base, server.Client().Transport)
			if err != nil {
				return nil, err
			}
			return contract.Load(raw)
		},
	}
	get := func() string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/things/7", http.NoBody)
		require.NoError(t, err)
		resp, err := (&http.Client{Transport: wire}).Do(req)
		require.NoError(t, err)
		got, err := io.ReadAll(resp.Body)
		require.NoError(t, errors.Join(err, resp.Body.Close()))
		return string(got)
	}
	require.Equal(t, body, get())
	require.Empty(t, reported)
	body = `{"name":7}`
	require.Equal(t, body, get())
	require.Len(t, reported, 1)
}
