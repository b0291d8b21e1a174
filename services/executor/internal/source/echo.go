package source

import (
	"context"
	"strings"
)

// echo answers with the prompt: no key, no network, the same every time. It is for trying out
// workflows and for tests, and it says plainly what it is.
type echo struct{}

func init() {
	registerLLM(Provider{
		Name: "echo", Description: "Answers with the prompt; no key, no network, for trying out and for tests",
	}, echo{})
}

func (echo) complete(ctx context.Context, _ *call, q question) (answer, error) {
	text := q.turns[len(q.turns)-1].text
	if q.progress != nil {
		for _, word := range strings.SplitAfter(text, " ") {
			if err := ctx.Err(); err != nil {
				return answer{}, err
			}
			q.progress(word)
		}
	}
	model := q.model
	if model == "" {
		model = "echo"
	}
	usage := estimate(q, text)
	usage.Estimated = false // this is how echo counts
	return answer{text: text, model: model, finish: finishStop, usage: usage}, nil
}

func (echo) probe(context.Context, *call, string) error { return nil }

var _ llmAdapter = echo{}
