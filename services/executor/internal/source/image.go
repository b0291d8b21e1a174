package source

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"

	"github.com/shopspring/decimal"
	"go.opentelemetry.io/otel/attribute"

	"github.com/agentflow/agentflow/pkg/workflow"
)

func init() {
	registerKind(Kind{
		Kind: "image", Name: "Image model", Description: "Makes one picture from a text.",
		Optional: []Field{
			{"provider", "string", defaultProvider, "One of the providers below"},
			{"model", "string", "by provider", "Name of the model; model_name is the same"},
			{"api_key_env", "env", "by provider", "Variable with the API key"},
			{"base_url", "string", "by provider", "Where the provider's API stands"},
			{"size", "string", "1024x1024", "Used when the node names none"},
			{"quality", "string", "standard", "Used when the node names none"},
			{"style", "string", "vivid", "Used when the node names none"},
			{"timeout", "number", "", "Seconds one attempt may take"},
			{"max_retries", "integer", "the node's", "Attempts after the first, at most 3"},
			{"price_per_image", "number", "price table", "US dollars for one picture"},
		},
	})
}

// picture is what an adapter read off the wire: a URL or the bytes.
type picture struct {
	url     string
	data    []byte
	mime    string
	revised string
	usage   Usage
}

// Image makes one picture. There is no placeholder: an answer without a picture is an error.
func (s *Sources) Image(ctx context.Context, caller Caller, src workflow.Source, req ImageRequest) (Image, error) {
	c := s.newCall(caller, src)
	provider, err := providerOf("image", c.config)
	if err != nil {
		return Image{}, c.invalid("%s", err.Error())
	}
	c.provider = provider.Name
	if strings.TrimSpace(req.Prompt) == "" {
		return Image{}, c.invalid("the prompt is empty")
	}
	req.Size = first(req.Size, c.config.text("size"), "1024x1024")
	req.Quality = first(req.Quality, c.config.text("quality"), "standard")
	req.Style = first(req.Style, c.config.text("style"), "vivid")
	model := c.imageModel(provider)

	ctx, cancel := deadline(ctx, c.clampTimeout(req.Timeout), providerTimeout)
	defer cancel()
	began := time.Now()
	ctx, span := c.span(ctx, "generate_content "+model, attribute.String("gen_ai.operation.name", "generate_content"),
		attribute.String("gen_ai.provider.name", provider.Name), attribute.String("gen_ai.request.model", model))
	var p picture
	err = c.breakers.do(c.breakerKey(), func() error {
		var err error
		p, err = registered.image[provider.Name].paint(ctx, c, model, req)
		if err == nil && p.url == "" && len(p.data) == 0 {
			err = &Error{Class: ClassEmpty, Message: "the model answered without a picture; rephrase the prompt, or try again"}
		}
		return c.own(ctx, err)
	})
	err = c.own(ctx, err)
	end(span, err)
	c.report(time.Since(began), err, p.usage)
	if err != nil {
		return Image{}, err
	}
	out := Image{
		Prompt: req.Prompt, RevisedPrompt: c.seen.Mask(p.revised), Model: model, Size: req.Size,
		Provider: provider.Name, Usage: p.usage, Cost: c.imageCost(model, p.usage),
	}
	if err := c.keep(ctx, p, &out); err != nil {
		return Image{}, c.own(ctx, err)
	}
	return out, nil
}

// keep puts the picture where it belongs: a URL and small data inline, large data in the store.
func (c *call) keep(ctx context.Context, p picture, out *Image) error {
	if len(p.data) == 0 {
		out.Type, out.URL = "url", c.seen.Mask(p.url)
		return nil
	}
	out.MIMEType = p.mime
	if out.MIMEType == "" {
		out.MIMEType = http.DetectContentType(p.data)
	}
	stored, err := c.binary(ctx, string(p.data), out.MIMEType)
	if err != nil {
		return err
	}
	out.Type, out.Data, out.Ref = stored.Type, stored.Data, stored.Ref
	return nil
}

func (c *call) imageModel(p Provider) string {
	return first(c.config.text("model", "model_name"), defaultImageModels[p.Name])
}

// defaultImageModels serve sources that name none.
var defaultImageModels = map[string]string{"openai": "gpt-image-1", "gemini": "gemini-2.5-flash-image"}

func (c *call) imageCost(model string, usage Usage) Cost {
	if own, ok := c.price("price_per_image"); ok {
		return Cost{Amount: json.Number(own.String()), Known: true, Basis: "source"}
	}
	p, ok := prices().find(model)
	if !ok {
		return Cost{Amount: "0"}
	}
	basis := "table " + prices().Date
	if p.Image.GreaterThan(decimal.Zero) {
		return Cost{Amount: json.Number(p.Image.String()), Known: true, Basis: basis}
	}
	if usage.Total() == 0 {
		return Cost{Amount: "0"} // priced by the token, and the provider did not count
	}
	return Cost{Amount: amount(p.Input, p.Output, perMillion, usage), Known: true, Basis: basis}
}

func first(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func decodeBase64(text string) ([]byte, error) {
	if _, after, ok := strings.Cut(text, ";base64,"); ok && strings.HasPrefix(text, "data:") {
		text = after
	}
	return base64.StdEncoding.DecodeString(text)
}
