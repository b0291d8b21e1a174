package source

func init() {
	registerLLM(Provider{
		Name: "groq", Description: "Groq", KeyEnv: []string{"GROQ_API_KEY"}, BaseURL: "https://api.groq.com/openai/v1",
	}, groq{openAI{name: "groq", completionTokens: true}})
}

// groq takes a schema from a few of its models only; the instruction in the prompt and the check
// of the answer hold for all of them.
type groq struct{ openAI }

var _ llmAdapter = groq{}
