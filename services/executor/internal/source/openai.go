package source

import (
	"context"
	"net/http"
	"strings"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/param"
)

var openAIKeys = []string{"OPENAI_API_KEY"}

func init() {
	p := Provider{
		Name: "openai", Description: "OpenAI", KeyEnv: openAIKeys, BaseURL: "https://api.openai.com/v1",
	}
	adapter := openAI{name: "openai", completionTokens: true, schema: true}
	registerLLM(p, adapter)
	registerImage(p, adapter)
}

// paint asks an image model of OpenAI.
func (o openAI) paint(ctx context.Context, c *call, model string, req ImageRequest) (picture, error) {
	cl, e, err := o.client(c, "image")
	if err != nil {
		return picture{}, err
	}
	params := openai.ImageGenerateParams{
		Prompt: req.Prompt, Model: model, N: param.NewOpt(int64(1)), Size: openai.ImageGenerateParamsSize(req.Size),
	}
	// Each family has its own words for quality, and refuses the other's.
	if dalle := strings.HasPrefix(model, "dall-e"); dalle {
		params.ResponseFormat = openai.ImageGenerateParamsResponseFormatURL
		if model == "dall-e-3" {
			params.Quality = openai.ImageGenerateParamsQuality(req.Quality)
			params.Style = openai.ImageGenerateParamsStyle(req.Style)
		}
	} else {
		params.Quality = openai.ImageGenerateParamsQuality(gptImageQuality(req.Quality))
	}
	var resp *http.Response
	got, err := cl.images.Generate(ctx, params, c.perCall(&resp)...)
	if err != nil {
		return picture{}, o.failure(err, resp, e, model)
	}
	if len(got.Data) == 0 {
		return picture{}, nil
	}
	p := picture{
		url: got.Data[0].URL, revised: got.Data[0].RevisedPrompt,
		usage: Usage{InputTokens: got.Usage.InputTokens, OutputTokens: got.Usage.OutputTokens},
	}
	if got.OutputFormat != "" {
		p.mime = "image/" + string(got.OutputFormat)
	}
	if got.Data[0].B64JSON != "" {
		if p.data, err = decodeBase64(got.Data[0].B64JSON); err != nil {
			return picture{}, &Error{Class: Class5xx, Message: "openai answered with a picture that is not base64", cause: err}
		}
	}
	return p, nil
}

// gptImageQuality translates the words of the contract, which are DALL·E's.
func gptImageQuality(quality string) string {
	switch quality {
	case "standard":
		return "auto"
	case "hd":
		return "high"
	default:
		return quality
	}
}

var (
	_ llmAdapter   = openAI{}
	_ imageAdapter = openAI{}
)
