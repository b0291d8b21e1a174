package source

func init() {
	registerLLM(Provider{
		Name: "openai-compatible", Aliases: []string{"openai_compatible", "compatible"},
		Description: "Any server with OpenAI's chat completions API; a key only when api_key_env names one",
		Required:    []string{"base_url"},
	}, compatible{openAI{name: "openai-compatible", topK: true}})
}

// compatible assumes as little as possible: max_tokens, and JSON mode without a schema.
type compatible struct{ openAI }

var _ llmAdapter = compatible{}
