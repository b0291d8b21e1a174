package e2e

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBadInput: what the API does not take it refuses with a problem that names the field and the rule, and changes nothing.
func TestBadInput(t *testing.T) {
	t.Parallel()
	c := found(t, use(t), "careless")
	a := c.Call(t, http.MethodPost, "/workflows", object{"name": "kept", "spec": pureWorkflow})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	workflow, _ := a.JSON(t)["id"].(string)
	a = c.Call(t, http.MethodPost, "/sources", object{"id": "kept", "kind": "llm", "config": object{"provider": "echo", "model": "m"}})
	require.Equal(t, http.StatusCreated, a.Status, "%s", a.Body)
	before := string(c.Get(t, "/workflows").Body) + string(c.Get(t, "/sources").Body)

	const create, update = "POST /workflows", "PUT /workflows/%s"
	source := func(config string) string { return `{"id":"s","kind":"api","config":` + config + `}` }
	for name, bad := range map[string]struct {
		request, body string
		status        int
		says          []string // field and rule
	}{
		"unknown field":                      {create, `{"name":"x","spec":` + pure + `,"colour":"red"}`, 422, []string{"colour", "unexpected"}},
		"unknown field of a change":          {update, `{"colour":"red"}`, 422, []string{"colour", "unexpected"}},
		"unknown field of a source":          {"POST /sources", `{"id":"s","kind":"llm","config":{},"colour":1}`, 422, []string{"colour", "unexpected"}},
		"unknown field of a source's change": {"PUT /sources/kept", `{"colour":1}`, 422, []string{"colour", "unexpected"}},
		"no spec":                            {create, `{"name":"x"}`, 422, []string{"spec", "required"}},
		"spec is text":                       {create, `{"name":"x","spec":"y"}`, 422, []string{"spec", "object"}},
		"name is a number":                   {create, `{"name":7,"spec":` + pure + `}`, 422, []string{"name", "string"}},
		"a long name":                        {create, `{"name":"` + strings.Repeat("n", 201) + `","spec":` + pure + `}`, 422, []string{"name", "200"}},
		"NUL in a name":                      {create, `{"name":"a\u0000b","spec":` + pure + `}`, 422, []string{"name", "control characters"}},
		"NUL in a spec":                      {create, `{"name":"x","spec":{"start_node":"a","nodes":[{"id":"a","type":"input","metadata":{"x":"\u0000"}}]}}`, 422, []string{"spec", "U+0000"}},
		"an odd status":                      {create, `{"name":"x","status":"odd","spec":` + pure + `}`, 422, []string{"status", "draft"}},
		"every problem":                      {create, `{"name":"x","spec":` + invalid + `}`, 400, []string{"E008", "E013", "E014"}},
		"a version of text":                  {update, `{"name":"x"}`, 422, []string{"If-Match"}},
		"a version that is not":              {update, `{"name":"x"}`, 412, []string{`"header.If-Match"`, "99"}},
		"no status to come to":               {update, `{"status":"archived"}`, 409, []string{`"body.status"`, "published"}},
		"not JSON":                           {create, `{"name":`, 400, []string{"JSON"}},
		"not UTF-8":                          {create, "{\"name\":\"\xff\"}", 400, []string{"UTF-8"}},
		"over a megabyte":                    {create, `{"name":"x","spec":{"start_node":"in","nodes":[{"id":"in","type":"input"}],"metadata":{"x":"` + strings.Repeat("x", 1<<20) + `"}}}`, 413, []string{"larger"}},
		"kind of nothing":                    {"POST /sources", `{"id":"s","kind":"fax","config":{}}`, 422, []string{"kind"}},
		"config is a list":                   {"POST /sources", `{"id":"s","kind":"llm","config":[]}`, 422, []string{"config", "object"}},
		"a key in a source":                  {"POST /sources", source(`{"base_url":"https://x.example","headers":{"Authorization":"Bearer sk-proj-0123456789abcdef"}}`), 422, []string{"config.headers.Authorization", "_env"}},
		"a password in a URL":                {"POST /sources", source(`{"base_url":"https://user:hunter2@x.example"}`), 422, []string{"config.base_url"}},
		"a nested key":                       {"POST /sources", source(`{"base_url":"https://x.example","deep":{"er":{"api_key":"0123456789"}}}`), 422, []string{"config.deep.er.api_key", "_env"}},
	} {
		request := bad.request
		if strings.Contains(request, "%s") {
			request = fmt.Sprintf(request, workflow)
		}
		method, path, _ := strings.Cut(request, " ")
		var header []string
		switch name {
		case "a version of text":
			header = []string{"If-Match", "first"}
		case "a version that is not":
			header = []string{"If-Match", `"99"`}
		}
		for _, prefix := range []string{"", "/api/v1"} {
			if prefix != "" && !strings.HasPrefix(path, "/workflows") {
				continue // frozen, with shapes of its own
			}
			a := c.Call(t, method, prefix+path, bad.body, header...)
			want := []int{bad.status}
			if prefix != "" && bad.status == http.StatusBadRequest {
				want = append(want, http.StatusUnprocessableEntity) // as Phase 1 calls it
			}
			require.Contains(t, want, a.Status, "%s, %s: %.1000s", name, prefix+path, a.Body)
			require.Less(t, len(a.Body), 16<<10)
			if prefix == "" {
				require.Equal(t, "application/problem+json", a.Header.Get("Content-Type"))
			}
			for _, word := range bad.says {
				require.Contains(t, string(a.Body), word, name)
			}
			for _, secret := range []string{"sk-proj", "hunter2", "0123456789"} {
				require.NotContains(t, string(a.Body), secret)
			}
		}
	}
	for _, list := range []string{"/workflows", "/sources", "/executions", "/audit", "/workflows/" + workflow + "/versions", "/workflows/" + workflow + "/executions"} {
		for _, query := range []string{"skip=-1", "limit=1e9", "limit=1000000000", "limit=0", "limit=101", "skip=x", "skip=1.5", "limit=99999999999999999999", "cursor=nonsense", "cursor=e30"} {
			a := c.Call(t, http.MethodGet, list+"?"+query, nil)
			require.Equal(t, http.StatusUnprocessableEntity, a.Status, "%s?%s: %s", list, query, a.Body)
			field, _, _ := strings.Cut(query, "=")
			require.Contains(t, string(a.Body), `"location":"query.`+field+`"`)
		}
	}
	// An id of another kind names nothing here.
	for _, id := range []string{c.keyID, "kept", "exec_01jd2v8m6hf5qrgq2s9n0w3x4y", "src_01jd2v8m6hf5qrgq2s9n0w3x4y", strings.ToUpper(workflow), workflow + "x", strings.Repeat("w", 300)} {
		for _, request := range []string{"GET /workflows/%s", "DELETE /workflows/%s", "GET /workflows/%s/versions", "POST /workflows/%s/execute", "GET /executions/%s", "GET /sources/x%s", "DELETE /sources/x%s"} {
			method, path, _ := strings.Cut(fmt.Sprintf(request, id), " ")
			a := c.Call(t, method, path, nil)
			require.Contains(t, []int{http.StatusNotFound, http.StatusUnprocessableEntity}, a.Status, "%s %s: %s", method, path, a.Body)
		}
	}
	require.Equal(t, before, string(c.Get(t, "/workflows").Body)+string(c.Get(t, "/sources").Body), "nothing of it was kept")
}

// TestOddNames: what looks odd but is not wrong is kept as it is, found, and given back.
func TestOddNames(t *testing.T) {
	t.Parallel()
	c := found(t, use(t), "polyglot")
	// A character of each plane of Unicode that has any, and some that are easily lost.
	names := []string{"plain ü", "漢字", "😀", "𠀋", "𰻞", "\U000E0041 tag", "\U000F0000 private", "\U0010FFFD last", "e\u0301 combined", "\u202eright to left", "a\u200db", "%_\\", "'; drop table workflows; --", strings.Repeat("𠀋", 200)}
	ids := map[string]string{}
	for _, name := range names {
		a := c.Call(t, http.MethodPost, "/workflows", object{"name": name, "description": name, "spec": pureWorkflow})
		require.Equal(t, http.StatusCreated, a.Status, "%q: %s", name, a.Body)
		ids[name], _ = a.JSON(t)["id"].(string)
	}
	for _, name := range names {
		require.Equal(t, name, c.Get(t, "/workflows/"+ids[name]).JSON(t)["name"])
		var page struct {
			Items []struct{ ID string } `json:"items"`
		}
		c.Get(t, "/workflows?search="+url.QueryEscape(name)).Decode(t, &page)
		require.NotEmpty(t, page.Items, "%q is found", name)
		require.Contains(t, fmt.Sprint(page.Items), ids[name])
	}
	// A document of nearly a megabyte is kept whole.
	big := strings.Repeat("ü€😀", 110_000)
	a := c.Call(t, http.MethodPost, "/workflows", object{"name": "big", "spec": object{
		"start_node": "in", "nodes": []any{object{"id": "in", "type": "input"}}, "metadata": object{"note": big},
	}})
	require.Equal(t, http.StatusCreated, a.Status, "%.500s", a.Body)
	id, _ := a.JSON(t)["id"].(string)
	require.Equal(t, big, c.Get(t, "/workflows/"+id).JSON(t)["spec"].(object)["metadata"].(object)["note"])
	a = c.Call(t, http.MethodPost, "/workflows/"+id+"/execute", object{"initial_state": object{"user_input": "x"}})
	require.Equal(t, http.StatusOK, a.Status, "%.500s", a.Body)
}
