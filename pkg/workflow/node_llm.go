package workflow

import "math"

func init() {
	RegisterNodeType(NodeType{
		Name:        "llm",
		Description: "Asks a language model and writes its answer.",
		Kind:        "llm",
		OutputKey:   "text_result",
		compile:     compileLLM,
	})
}

// maxInteger bounds the counts an author may set.
const maxInteger = math.MaxInt32

func compileLLM(n *PlanNode, report func(Problem)) {
	f := NodeFields(n.Node, report)
	n.Prompt = prompt(f)
	if f.Blank("prompt") && f.Blank("prompt_template") {
		f.Missing("prompt", "an llm node needs a prompt, or a prompt_template such as \"Answer briefly: {user_input}\"")
	}
	f.Text("system_prompt", "")
	f.Number("temperature", 0.7, 0, 2)
	f.Integer("max_tokens", 4096, 1, maxInteger)
	checkInline(f)
}

// prompt compiles the prompt of an llm or image node: prompt as it stands, else
// prompt_template. It returns nil when the node has neither.
func prompt(f Fields) *Template {
	return textOrTemplate(f, "prompt", "prompt_template")
}

func textOrTemplate(f Fields, textKey, templateKey string) *Template {
	literal, template := f.Text(textKey, ""), f.Text(templateKey, "")
	switch {
	case literal != "":
		return LiteralTemplate(literal)
	case template != "":
		return CompileTemplate(template)
	}
	return nil
}

// checkInline checks what a node may say about its model in place of a source.
func checkInline(f Fields) {
	f.Name("provider", "")
	f.Name("model", "")
	f.Name("api_key_env", "")
}
