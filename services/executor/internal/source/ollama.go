package source

func init() {
	registerLLM(Provider{
		Name: "ollama", Description: "Ollama, on this machine or another; a key only where a proxy wants one",
		KeyEnv: []string{"OLLAMA_API_KEY"}, BaseURL: "http://localhost:11434/v1",
	}, ollama{openAI{name: "ollama", schema: true}})
}

// ollama needs EGRESS_ALLOW to name its address: it is private almost everywhere.
type ollama struct{ openAI }

var _ llmAdapter = ollama{}
