package source

import (
	"net/url"
	"strings"

	"github.com/openai/openai-go/v3/option"
)

func init() {
	registerLLM(Provider{
		Name: "azure", Aliases: []string{"azure-openai", "azure_openai"},
		Description: "Azure OpenAI; model is the name of the deployment, base_url the resource's endpoint",
		KeyEnv:      []string{"AZURE_OPENAI_API_KEY"}, Required: []string{"base_url"},
	}, azure{openAI{name: "azure", completionTokens: true, schema: true, options: azureOptions}})
}

// azure puts the deployment into the path when a dated api_version is asked for, and uses the
// versionless API otherwise. Its key stands in a header of its own.
type azure struct{ openAI }

func azureOptions(c *call, e endpoint) (string, []option.RequestOption, error) {
	base := strings.TrimSuffix(e.base.String(), "/")
	opts := []option.RequestOption{option.WithHeader("Api-Key", e.key)}
	version := c.config.text("api_version")
	switch {
	case version != "" && !strings.Contains(base, "/openai/"):
		deployment := first(c.config.text("deployment"), c.config.text("model", "model_name"))
		base += "/openai/deployments/" + url.PathEscape(deployment)
		opts = append(opts, option.WithQuery("api-version", version))
	case version != "":
		opts = append(opts, option.WithQuery("api-version", version))
	case !strings.Contains(base, "/openai"):
		base += "/openai/v1"
	}
	return base, opts, nil
}

var _ llmAdapter = azure{}
