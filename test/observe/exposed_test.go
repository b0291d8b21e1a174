package observe_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/test/fakeprovider"
	"github.com/agentflow/agentflow/test/platform"
)

// exposition is what a platform says on its admin port: for each series name the labels it has with their values.
type exposition map[string]map[string]map[string]bool

// scrape reads /metrics as Prometheus does.
func scrape(t *testing.T, admin string) exposition {
	t.Helper()
	status, body := get(t, "http://"+admin+"/metrics")
	require.Equal(t, http.StatusOK, status)
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(body))
	require.NoError(t, err)
	found := exposition{}
	for name, family := range families {
		for _, m := range family.GetMetric() {
			labels := m.GetLabel()
			switch family.GetType() {
			case dto.MetricType_HISTOGRAM:
				found.add(name+"_bucket", append([]*dto.LabelPair{{Name: ptr("le"), Value: ptr("1")}}, labels...))
				found.add(name+"_sum", labels)
				found.add(name+"_count", labels)
			default:
				found.add(name, labels)
			}
		}
	}
	return found
}

func ptr(s string) *string { return &s }

func (e exposition) add(name string, labels []*dto.LabelPair) {
	if e[name] == nil {
		e[name] = map[string]map[string]bool{}
	}
	for _, l := range labels {
		if e[name][l.GetName()] == nil {
			e[name][l.GetName()] = map[string]bool{}
		}
		e[name][l.GetName()][l.GetValue()] = true
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return send(t, http.MethodGet, url, "")
}

func send(t *testing.T, method, url, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp.StatusCode, string(text)
}

// exercised is a platform that has done a little of everything.
func exercised(t *testing.T) *platform.Platform {
	t.Helper()
	models := fakeprovider.New(t, func(r fakeprovider.Request) fakeprovider.Reply {
		if r.Number == 1 {
			return fakeprovider.Reply{Status: http.StatusServiceUnavailable, Text: "try again"}
		}
		return fakeprovider.Reply{Text: "an answer"}
	})
	p := platform.Start(t, platform.Options{Env: []string{"AGENTFLOW_SECRET_MODEL=sk-planted", "RATE_LIMIT_REQUESTS_PER_MINUTE=1000"}})
	order := object{"workflow": object{
		"start_node": "ask",
		"nodes": []object{
			{"id": "ask", "type": "input"},
			{"id": "think", "type": "llm", "metadata": object{"source_id": "model", "prompt": "x", "retry": object{"max_attempts": 2, "initial_interval": 0.01}}},
		},
		"edges":  []object{{"from": "ask", "to": "think"}},
		"queues": []object{{"id": "line", "from": "ask", "to": "think", "bandwidth": object{"max_requests_per_minute": 100, "max_tokens_per_minute": 100000}}},
		"sources": []object{{"id": "model", "kind": "llm", "config": object{
			"provider": "openai", "model": "gpt-4o-mini", "base_url": models.OpenAI(), "api_key_env": "AGENTFLOW_SECRET_MODEL", "max_retries": 0,
		}}},
	}}
	for _, c := range []struct {
		path   string
		body   any
		status int
	}{
		{"/workflows/execute", order, http.StatusOK},
		{"/workflows/execute", object{"workflow": object{
			"start_node": "a", "nodes": []object{{"id": "a", "type": "input", "metadata": object{"validate": object{"required": true}}}},
		}}, http.StatusInternalServerError},
		{"/workflows", object{"spec": order["workflow"], "name": "kept"}, http.StatusCreated},
		{"/workflows", object{"spec": 1}, http.StatusUnprocessableEntity},
	} {
		answer := p.Call(t, http.MethodPost, c.path, c.body)
		require.Equal(t, c.status, answer.Status, "%s: %s", c.path, answer.Body)
	}
	status, _ := get(t, "http://"+p.Ready().AdminAddr+"/health/ready") // sets the gauges of the checks
	require.Equal(t, http.StatusOK, status)
	return p
}
