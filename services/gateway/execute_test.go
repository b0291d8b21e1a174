package gateway_test

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

const pure = `{"start_node":"in","nodes":[{"id":"in","type":"input"},{"id":"out","type":"aggregator"}],"edges":[{"from":"in","to":"out"}]}`

func TestExecuteInline(t *testing.T) {
	p := start(t, withoutKeys)
	for _, path := range []string{"/api/v1/workflows/execute", "/workflows/execute"} {
		a := p.call(http.MethodPost, path, `{"workflow":`+pure+`,"initial_state":{"user_input":"hi","big":12345678901234567890.1000}}`)
		require.Equal(t, 200, a.status, "%s", a.body)
		body := a.json(t)
		require.Equal(t, "success", body["status"])
		require.Contains(t, string(a.body), `"big":12345678901234567890.1000`, "numbers go through untouched")
		require.Contains(t, string(a.body), `"cost":0.0012`)
	}
}
