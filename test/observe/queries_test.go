package observe_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/agentflow/agentflow/test/platform"
)

func deployed(name string) string {
	return filepath.Join("..", "..", "deploy", "observability", name)
}

// query is one PromQL expression and where it stands.
type query struct{ where, expr string }

type rules struct {
	Groups []struct {
		Name  string `yaml:"name"`
		Rules []struct {
			Alert       string            `yaml:"alert"`
			Expr        string            `yaml:"expr"`
			For         string            `yaml:"for"`
			Labels      map[string]string `yaml:"labels"`
			Annotations map[string]string `yaml:"annotations"`
		} `yaml:"rules"`
	} `yaml:"groups"`
}

func readRules(t *testing.T) rules {
	t.Helper()
	raw, err := os.ReadFile(deployed("alerts.yaml"))
	require.NoError(t, err)
	decoder := yaml.NewDecoder(strings.NewReader(string(raw)))
	decoder.KnownFields(true)
	var r rules
	require.NoError(t, decoder.Decode(&r))
	return r
}

func alertQueries(t *testing.T) []query {
	t.Helper()
	var found []query
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			found = append(found, query{rule.Alert, rule.Expr})
		}
	}
	return found
}

func dashboardQueries(t *testing.T) []query {
	t.Helper()
	raw, err := os.ReadFile(deployed("dashboard.json"))
	require.NoError(t, err)
	var board struct {
		Panels []struct {
			ID      int    `json:"id"`
			Title   string `json:"title"`
			Targets []struct {
				Expr string `json:"expr"`
			} `json:"targets"`
		} `json:"panels"`
	}
	require.NoError(t, json.Unmarshal(raw, &board))
	ids := map[int]bool{}
	var found []query
	for _, panel := range board.Panels {
		require.False(t, ids[panel.ID], "panel %d stands there twice", panel.ID)
		ids[panel.ID] = true
		for _, target := range panel.Targets {
			// What Grafana puts in.
			found = append(found, query{panel.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")})
		}
	}
	return found
}

// scraped are the labels and series that come from Prometheus itself.
var scraped = map[string]bool{"instance": true, "job": true, model.MetricNameLabel: true}

// problems are what is wrong with a query, held against what is exposed.
func problems(expr string, e exposition) []string {
	parsed, err := parser.ParseExpr(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var wrong []string
	known := map[string]bool{} // labels that the series of the query have
	for _, series := range parser.ExtractSelectors(parsed) {
		name := ""
		for _, m := range series {
			if m.Name == model.MetricNameLabel {
				name = m.Value
			}
		}
		if name == "up" {
			continue
		}
		have, ok := e[name]
		if !ok {
			wrong = append(wrong, "nobody exposes "+name)
			continue
		}
		for label := range have {
			known[label] = true
		}
		for _, m := range series {
			if !scraped[m.Name] && have[m.Name] == nil {
				wrong = append(wrong, name+" has no label "+m.Name)
			}
			if m.Type == labels.MatchEqual && !scraped[m.Name] && !occurs[name+"/"+m.Name+"/"+m.Value] && !have[m.Name][m.Value] {
				wrong = append(wrong, name+" never has "+m.Name+"="+m.Value)
			}
		}
	}
	parser.Inspect(parsed, func(n parser.Node, _ []parser.Node) error {
		sum, ok := n.(*parser.AggregateExpr)
		if !ok {
			return nil
		}
		for _, label := range sum.Grouping {
			if !scraped[label] && !known[label] {
				wrong = append(wrong, "no series has the label "+label)
			}
		}
		return nil
	})
	return wrong
}

// occurs are label values that no healthy platform shows: each is tested where it is made.
var occurs = map[string]bool{
	"agentflow_http_requests_total/status/503":        true, // services/gateway
	"agentflow_catalog_commands_total/outcome/failed": true, // services/catalog
}

func TestRunning(t *testing.T) { //nolint:tparallel // one part changes the log level of the platform they share
	t.Parallel()
	p := exercised(t)
	t.Run("queries", func(t *testing.T) { testQueries(t, p) })
	t.Run("codes", func(t *testing.T) { testCodes(t, p) })
	t.Run("admin port", func(t *testing.T) { testAdminPort(t, p) })
}

// Every query of the dashboard and of the alerts asks for series and labels that a running platform exposes.
func testQueries(t *testing.T, p *platform.Platform) {
	t.Helper()
	queries := append(alertQueries(t), dashboardQueries(t)...)
	require.Greater(t, len(queries), 40)
	wrong := func() []string {
		e := scrape(t, p.Ready().AdminAddr)
		var all []string
		for _, q := range queries {
			for _, problem := range problems(q.expr, e) {
				all = append(all, q.where+": "+problem)
			}
		}
		return all
	}
	// The projector and the janitor take a moment to have something to tell.
	var last []string
	require.Eventually(t, func() bool { last = wrong(); return len(last) == 0 }, patience, pause, "%v", &last)
	e := scrape(t, p.Ready().AdminAddr)
	for _, bad := range []string{"agentflow_nothing", `sum by (tenant) (agentflow_executions_running)`, `agentflow_commits_total{zone="a"}`, "rate("} {
		require.NotEmpty(t, problems(bad, e), bad)
	}
	// Prometheus practice, and nothing without bound.
	for name, have := range e {
		require.Regexp(t, `^(agentflow|go|process|promhttp)_[a-z0-9_]+$`, name)
		for _, endless := range []string{"tenant", "tenant_id", "execution", "execution_id", "workflow_id", "request_id", "key"} {
			require.NotContains(t, have, endless, name)
		}
	}
}

// Every alert says how bad it is, what it means, and where it stands what to do.
func TestAlertsAreDocumented(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	require.NoError(t, err)
	headings := map[string]bool{}
	for _, h := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(raw), -1) {
		headings[strings.ReplaceAll(strings.ToLower(h[1]), " ", "-")] = true
	}
	seen := map[string]bool{}
	for _, group := range readRules(t).Groups {
		for _, rule := range group.Rules {
			require.False(t, seen[rule.Alert], rule.Alert)
			seen[rule.Alert] = true
			if rule.For != "" {
				_, err := model.ParseDuration(rule.For)
				require.NoError(t, err, rule.Alert)
			}
			require.Contains(t, []string{"critical", "warning"}, rule.Labels["severity"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.NotEmpty(t, rule.Annotations["description"], rule.Alert)
			page, section, _ := strings.Cut(rule.Annotations["runbook"], "#")
			require.Equal(t, "docs/operations.md", page, rule.Alert)
			require.True(t, headings[section], "%s: docs/operations.md has no section %s", rule.Alert, section)
		}
	}
}
