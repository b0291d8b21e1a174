package source

import (
	"encoding/base64"
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// onePixel is a PNG of one pixel.
const onePixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

func imageSource(f *fake, provider string, more ...any) workflow.Source {
	return makeSource("image", append([]any{"provider", provider, "base_url", f.URL, "api_key_env", "TENANT_ACME_KEY"}, more...)...)
}

func TestOpenAIImages(t *testing.T) {
	store := &objects{}
	b, f := llmBench(t, func(c *Config) { c.Objects, c.LargeBytes = store, 1000 }), newFake(t)
	f.json(200, `{"created":1,"data":[{"url":"https://images.example/1.png","revised_prompt":"a red fox"}]}`)
	got, err := b.Image(t.Context(), caller(), imageSource(f, "openai", "model", "dall-e-3"), ImageRequest{Prompt: "a fox", Quality: "hd"})
	require.NoError(t, err)
	require.Equal(t, Image{
		Type: "url", URL: "https://images.example/1.png", Prompt: "a fox", RevisedPrompt: "a red fox", Model: "dall-e-3", Size: "1024x1024",
		Provider: "openai", Cost: Cost{Amount: "0.04", Known: true, Basis: "table " + prices().Date},
	}, got)
	require.Equal(t, map[string]any{
		"prompt": "a fox", "model": "dall-e-3", "n": 1.0, "size": "1024x1024", "quality": "hd", "style": "vivid", "response_format": "url",
	}, f.last().body)
	require.Equal(t, "/images/generations", f.last().path)
	require.Equal(t, "Bearer "+plantedKey, f.last().header.Get("Authorization"))
	requireNoPlatform(t, f.last())
	require.JSONEq(t, `{"type":"url","url":"https://images.example/1.png","prompt":"a fox","revised_prompt":"a red fox","model":"dall-e-3","size":"1024x1024"}`, toJSON(t, got))

	f.json(200, `{"created":1,"output_format":"png","data":[{"b64_json":"`+onePixel+`"}],"usage":{"input_tokens":10,"output_tokens":1000,"total_tokens":1010,"input_tokens_details":{}}}`)
	got, err = b.Image(t.Context(), caller(), imageSource(f, "openai"), ImageRequest{Prompt: "a fox", Size: "1536x1024"})
	require.NoError(t, err)
	require.Equal(t, "base64", got.Type)
	require.Equal(t, onePixel, got.Data)
	require.Equal(t, "image/png", got.MIMEType)
	require.Equal(t, "gpt-image-1", got.Model)
	require.Equal(t, json.Number("0.04005"), got.Cost.Amount)
	require.Equal(t, "auto", f.last().body["quality"], "DALL·E's word for it means nothing here")
	require.NotContains(t, f.last().body, "style")

	large := base64.StdEncoding.EncodeToString(make([]byte, 5000))
	f.json(200, `{"created":1,"data":[{"b64_json":"`+large+`"}]}`)
	got, err = b.Image(t.Context(), caller(), imageSource(f, "openai", "price_per_image", json.Number("0.5")), ImageRequest{Prompt: "a fox"})
	require.NoError(t, err)
	require.Equal(t, "object", got.Type)
	require.Empty(t, got.Data)
	require.Len(t, store.kept[got.Ref], 5000)
	require.Equal(t, Cost{Amount: "0.5", Known: true, Basis: "source"}, got.Cost)
}

func TestGeminiImages(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	f.json(200, `{"candidates":[{"content":{"parts":[{"text":"Here it is"},{"inlineData":{"mimeType":"image/png","data":"`+onePixel+`"}}],"role":"model"},"finishReason":"STOP"}],
		"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":1290,"totalTokenCount":1300}}`)
	got, err := b.Image(t.Context(), caller(), imageSource(f, "gemini"), ImageRequest{Prompt: "a fox", Size: "1792x1024"})
	require.NoError(t, err)
	require.Equal(t, "base64", got.Type)
	require.Equal(t, onePixel, got.Data)
	require.Equal(t, "image/png", got.MIMEType)
	require.Equal(t, json.Number("0.038703"), got.Cost.Amount)
	require.Equal(t, "/v1beta/models/gemini-2.5-flash-image:generateContent", f.last().path)
	require.Equal(t, "16:9", at(t, f.last().body, "generationConfig", "imageConfig", "aspectRatio"))
	requireNoPlatform(t, f.last())

	f.json(200, `{"predictions":[{"bytesBase64Encoded":"`+onePixel+`","mimeType":"image/png"}]}`)
	got, err = b.Image(t.Context(), caller(), imageSource(f, "imagen", "model", "imagen-4.0-generate-001"), ImageRequest{Prompt: "a fox"})
	require.NoError(t, err)
	require.Equal(t, onePixel, got.Data)
	require.Equal(t, "/v1beta/models/imagen-4.0-generate-001:predict", f.last().path)
	require.Equal(t, json.Number("0.04"), got.Cost.Amount)
	require.Equal(t, "1:1", at(t, f.last().body, "parameters", "aspectRatio"))
}

// There is no placeholder that pretends success: whatever is not a picture is an error.
func TestImageFailures(t *testing.T) {
	b, f := llmBench(t), newFake(t)
	for name, test := range map[string]struct {
		provider, model string
		status          int
		body            string
		class           Class
	}{
		"openai none":     {"openai", "dall-e-3", 200, `{"created":1,"data":[]}`, ClassEmpty},
		"openai blank":    {"openai", "dall-e-3", 200, `{"created":1,"data":[{}]}`, ClassEmpty},
		"openai garbage":  {"openai", "gpt-image-1", 200, `{"created":1,"data":[{"b64_json":"%%%"}]}`, Class5xx},
		"openai filter":   {"openai", "dall-e-3", 400, `{"error":{"code":"moderation_blocked","message":"no","type":"image_generation_user_error"}}`, ClassSafety},
		"openai key":      {"openai", "dall-e-3", 401, `{"error":{"code":"invalid_api_key","message":"no ` + plantedKey + `"}}`, ClassAuth},
		"gemini words":    {"gemini", "", 200, geminiContent(`"I would rather not"`, "STOP"), ClassEmpty},
		"gemini filter":   {"gemini", "", 200, `{"candidates":[{"finishReason":"IMAGE_SAFETY"}]}`, ClassSafety},
		"gemini no image": {"gemini", "", 200, `{"candidates":[{"finishReason":"NO_IMAGE"}]}`, ClassEmpty},
		"imagen filter":   {"gemini", "imagen-3.0-generate-002", 200, `{"predictions":[{"raiFilteredReason":"Unable to show"}]}`, ClassSafety},
		"imagen none":     {"gemini", "imagen-3.0-generate-002", 200, `{}`, ClassEmpty},
		"gemini slow":     {"gemini", "", 429, `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"slow"}}`, Class429},
	} {
		f.json(test.status, test.body)
		src := imageSource(f, test.provider)
		if test.model != "" {
			src.Config["model"] = test.model
		}
		_, err := b.Image(t.Context(), caller(), src, ImageRequest{Prompt: "a fox"})
		require.Error(t, err, name)
		requireClass(t, test.class, err)
		require.NotContains(t, err.Error(), plantedKey)
	}
	_, err := b.Image(t.Context(), caller(), imageSource(f, "openai"), ImageRequest{})
	requireClass(t, ClassInvalid, err)
	_, err = b.Image(t.Context(), caller(), imageSource(f, "groq"), ImageRequest{Prompt: "x"})
	requireClass(t, ClassInvalid, err)
	require.ErrorContains(t, err, "one of gemini, openai")
}
