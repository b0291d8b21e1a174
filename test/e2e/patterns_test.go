package e2e

import (
	"net/http"
	"strings"

	"github.com/agentflow/agentflow/test/fakeprovider"
)

type object = map[string]any

// provider is a wire format under test. Every pattern runs against each, and ends in the same state.
type provider struct {
	name    string
	model   func(*fakeprovider.Server) object // config of the llm source
	painter func(*fakeprovider.Server) object // config of the image source
	picture object                            // what the image node writes
}

// Prices that make a call cost 0.025, whatever the provider: 11 tokens in, 7 out.
func priced(config object) object {
	config["price_per_1k_input"], config["price_per_1k_output"] = 1, 2
	config["api_key_env"] = "AGENTFLOW_SECRET_MODEL"
	return config
}

var providers = []provider{
	{
		name: "openai",
		model: func(s *fakeprovider.Server) object {
			return priced(object{"provider": "openai", "model": "gpt-4o-mini", "base_url": s.OpenAI()})
		},
		painter: func(s *fakeprovider.Server) object {
			return object{"provider": "openai", "model": "dall-e-3", "base_url": s.OpenAI(), "api_key_env": "AGENTFLOW_SECRET_MODEL", "price_per_image": 0.5}
		},
		picture: object{"type": "url", "url": "https://pictures.example/1.png", "model": "dall-e-3"},
	},
	{
		name: "gemini",
		model: func(s *fakeprovider.Server) object {
			return priced(object{"provider": "gemini", "model": "gemini-2.5-flash", "base_url": s.Gemini()})
		},
		painter: func(s *fakeprovider.Server) object {
			return object{
				"provider": "gemini", "model": "gemini-2.5-flash-image", "base_url": s.Gemini(), "api_key_env": "AGENTFLOW_SECRET_MODEL", "price_per_image": 0.5,
			}
		},
		picture: object{"type": "base64", "data": "cGljdHVyZQ==", "mime_type": "image/png", "model": "gemini-2.5-flash-image"},
	},
	{
		name: "anthropic",
		model: func(s *fakeprovider.Server) object {
			return priced(object{"provider": "anthropic", "model": "claude-3-5-haiku-latest", "base_url": s.Anthropic()})
		},
		painter: func(s *fakeprovider.Server) object {
			return object{"provider": "gemini", "model": "imagen-4.0-generate-001", "base_url": s.Gemini(), "api_key_env": "AGENTFLOW_SECRET_MODEL", "price_per_image": 0.5}
		},
		picture: object{"type": "base64", "data": "cGljdHVyZQ==", "mime_type": "image/png", "model": "imagen-4.0-generate-001"},
	},
}

// pattern is a workflow file with an input, the outside world it meets, and what must come of it.
type pattern struct {
	name  string
	file  string
	state object
	world fakeprovider.Script

	want     object // final_state, over the fresh state; picture and path are filled in below
	path     []string
	branches []string // nodes of the path that run at the same time, and end in any order
	prompts  []string // what was asked outside
	tokens   int
	cost     string
}

// answers is a world of models that know what to say to which prompt.
func answers(known map[string]string) fakeprovider.Script {
	return func(r fakeprovider.Request) fakeprovider.Reply {
		if answer, ok := known[r.Prompt]; ok {
			return fakeprovider.Text(answer)
		}
		return fakeprovider.Reply{Status: http.StatusBadRequest, Text: "the test does not know the prompt: " + r.Prompt}
	}
}

var patterns = []pattern{
	{
		name: "simple", file: "simple",
		state:   object{"user_input": "What is NATS?"},
		world:   answers(map[string]string{"Question: What is NATS?": "A message bus."}),
		want:    object{"user_input": "What is NATS?", "text_result": "A message bus."},
		path:    []string{"ask", "answer"},
		prompts: []string{"You are brief. / Question: What is NATS?"},
		tokens:  18, cost: "0.025",
	},
	{
		name: "sequential", file: "sequential",
		state: object{"user_input": "  tides \n"},
		world: answers(map[string]string{
			"outline tides": "1. moon", "draft from 1. moon": "The moon pulls.", "polish The moon pulls. about tides": "The moon draws the sea.",
		}),
		want: object{
			"user_input": "  tides \n", "text_result": "The moon draws the sea.", "final_output": "The moon draws the sea.",
			"outputs": object{"subject": "tides", "plan": "1. moon", "text": "The moon pulls."},
		},
		path:    []string{"topic", "outline", "draft", "polish", "publish"},
		prompts: []string{"outline tides", "draft from 1. moon", "polish The moon pulls. about tides"},
		tokens:  54, cost: "0.075",
	},
	{
		name: "parallel", file: "parallel",
		state: object{"user_input": "a long day", "tags": []any{"x"}},
		world: answers(map[string]string{
			"summary of a long day": "long", "mood of a long day": "tired", "keywords of a long day": "day",
		}),
		want: object{
			"user_input": "a long day", "tags": []any{"x"},
			"outputs": object{"summary": "long", "mood": "tired", "keywords": "day"},
			"final_output": object{
				"result": object{"summary": "long", "mood": "tired", "keywords": "day"}, "tokens_used": 54, "cost": 0.075,
				"execution_path": []any{"text", "summary", "mood", "keywords"},
			},
		},
		path: []string{"text", "summary", "mood", "keywords", "report"}, branches: []string{"summary", "mood", "keywords"},
		prompts: []string{"summary of a long day", "mood of a long day", "keywords of a long day"},
		tokens:  54, cost: "0.075",
	},
	{
		name: "routed to the first desk", file: "routed",
		state: object{"user_input": "Where is my REFUND?"},
		world: answers(map[string]string{"billing: Where is my REFUND?": "On its way."}),
		want: object{
			"user_input": "Where is my REFUND?", "intent": "billing", "text_result": "On its way.",
			"final_output": object{
				"result": "[billing] On its way.", "execution_path": []any{"ask", "sort", "billing_desk"}, "tokens_used": 18, "cost": 0.025,
			},
		},
		path:    []string{"ask", "sort", "billing_desk", "reply"},
		prompts: []string{"billing: Where is my REFUND?"},
		tokens:  18, cost: "0.025",
	},
	{
		name: "routed to a named target", file: "routed",
		state: object{"user_input": "It shows an error"},
		world: answers(map[string]string{"technical: It shows an error": "Restart it."}),
		want: object{
			"user_input": "It shows an error", "intent": "technical", "text_result": "Restart it.",
			"final_output": object{
				"result": "[technical] Restart it.", "execution_path": []any{"ask", "sort", "engineers"}, "tokens_used": 18, "cost": 0.025,
			},
		},
		path:    []string{"ask", "sort", "engineers", "reply"},
		prompts: []string{"technical: It shows an error"},
		tokens:  18, cost: "0.025",
	},
	{
		name: "routed by default", file: "routed",
		state: object{"user_input": "Hello"},
		world: answers(map[string]string{"general: Hello": "Hi."}),
		want: object{
			"user_input": "Hello", "intent": "general", "text_result": "Hi.",
			"final_output": object{
				"result": "[general] Hi.", "execution_path": []any{"ask", "sort", "general_desk"}, "tokens_used": 18, "cost": 0.025,
			},
		},
		path:    []string{"ask", "sort", "general_desk", "reply"},
		prompts: []string{"general: Hello"},
		tokens:  18, cost: "0.025",
	},
	{
		name: "order accepted", file: "orders",
		state: object{"user_input": object{"sku": "a-1", "quantity": 2}, "customer": "Ada"},
		world: func(r fakeprovider.Request) fakeprovider.Reply {
			if r.Wire == fakeprovider.Plain {
				return fakeprovider.JSON(object{"reservation": "r-77", "sku": r.JSON()["sku"], "quantity": r.JSON()["quantity"], "note": r.JSON()["note"]})
			}
			return answers(map[string]string{
				`Check the order {"quantity":2,"sku":"a-1"}. Answer as { "valid": true, "why": {"text": ""} } in one word.`: "valid",
				"confirm reservation r-77": "Thank you.",
			})(r)
		},
		want: object{
			"user_input": object{"sku": "a-1", "quantity": 2}, "customer": "Ada", "final_output": "Thank you.",
			"outputs": object{"verdict": "valid", "letter": "Thank you."},
			"api_result": object{
				"status_code": 200, "success": true, "headers": object{},
				"data": object{"reservation": "r-77", "sku": "a-1", "quantity": 2, "note": "order of Ada"},
			},
		},
		path: []string{"order", "check", "reserve", "confirm", "answer"},
		prompts: []string{
			`Check the order {"quantity":2,"sku":"a-1"}. Answer as { "valid": true, "why": {"text": ""} } in one word.`,
			"POST /stock/a-1/reserve", "confirm reservation r-77",
		},
		tokens: 36, cost: "0.05",
	},
	{
		name: "order declined", file: "orders",
		state: object{"user_input": object{"sku": "b-2", "quantity": -1}},
		world: answers(map[string]string{
			`Check the order {"quantity":-1,"sku":"b-2"}. Answer as { "valid": true, "why": {"text": ""} } in one word.`: "invalid",
			"decline b-2": "Sorry.",
		}),
		want: object{
			"user_input": object{"sku": "b-2", "quantity": -1}, "final_output": "Sorry.",
			"outputs": object{"verdict": "invalid", "letter": "Sorry."},
		},
		path: []string{"order", "check", "decline", "answer"},
		prompts: []string{
			`Check the order {"quantity":-1,"sku":"b-2"}. Answer as { "valid": true, "why": {"text": ""} } in one word.`, "decline b-2",
		},
		tokens: 36, cost: "0.05",
	},
	{
		name: "roles", file: "roles",
		state: object{"user_input": "Shall we?"},
		world: func(r fakeprovider.Request) fakeprovider.Reply {
			switch r.System + " / " + r.Prompt {
			case "You are an optimist. / Is it wise, {name}?":
				return fakeprovider.Text("Yes!")
			case "You are a sceptic. / Shall we?":
				return fakeprovider.Text("No.")
			case "You are a lawyer. / Shall we?":
				return fakeprovider.Text("It depends.")
			case "You moderate. / Decide: Yes! | No. | It depends.":
				return fakeprovider.Text("Adjourned.")
			}
			return fakeprovider.Reply{Status: http.StatusBadRequest, Text: "unknown: " + r.System + " / " + r.Prompt}
		},
		want: object{
			"user_input": "Shall we?", "intent": "debate", "text_result": "Adjourned.",
			"outputs": object{"pro": "Yes!", "contra": "No.", "law": "It depends.", "minutes": "Yes! | No. | It depends."},
		},
		path: []string{"question", "panel", "optimist", "sceptic", "lawyer", "minutes", "moderator"}, branches: []string{"optimist", "sceptic", "lawyer"},
		prompts: []string{
			"You are an optimist. / Is it wise, {name}?", "You are a sceptic. / Shall we?", "You are a lawyer. / Shall we?",
			"You moderate. / Decide: Yes! | No. | It depends.",
		},
		tokens: 72, cost: "0.1",
	},
	{
		name: "review with template", file: "review",
		state: object{"brief": "a haiku"},
		world: answers(map[string]string{
			"write a haiku, mind: {remarks}": "old pond", "judge old pond": "too short",
			"write a haiku, mind: too short": "old pond, frog leaps in", "judge old pond, frog leaps in": "good",
		}),
		want: object{
			"brief": "a haiku", "final_output": "# a haiku\n\nold pond, frog leaps in\n\n{reviewed: good} {nothing}",
			"outputs": object{"draft": "old pond, frog leaps in", "remarks": "good"},
		},
		path: []string{"brief", "write", "judge", "write", "judge", "page"},
		prompts: []string{
			"write a haiku, mind: {remarks}", "judge old pond", "write a haiku, mind: too short", "judge old pond, frog leaps in",
		},
		tokens: 72, cost: "0.1",
	},
	{
		name: "multi-tool chain", file: "tools",
		state: object{"user_input": "a trip to Lisbon", "unit": "C"},
		world: func(r fakeprovider.Request) fakeprovider.Reply {
			switch {
			case r.Wire == fakeprovider.Plain:
				return fakeprovider.JSON(object{"sky": "sunny", "asked": r.Path + "?" + r.Query})
			case r.Image && r.Wire == fakeprovider.OpenAI:
				return fakeprovider.Reply{Image: fakeprovider.Picture{URL: "https://pictures.example/1.png"}}
			case r.Image:
				return fakeprovider.Reply{Image: fakeprovider.Picture{Data: []byte("picture")}}
			case strings.Contains(r.Prompt+r.System, "anything else"):
				return fakeprovider.Text("travel")
			}
			return answers(map[string]string{"city of a trip to Lisbon": "Lisbon", "plan Lisbon: sunny, Belém": "Stay at the Belém."})(r)
		},
		want: object{
			"user_input": "a trip to Lisbon", "unit": "C", "intent": "travel", "text_result": "Stay at the Belém.",
			"outputs": object{"city": "Lisbon"},
			"api_result": object{
				"status_code": 200, "success": true, "headers": object{}, "data": object{"sky": "sunny", "asked": "/weather/Lisbon?days=3&unit=C"},
			},
			"db_result": []any{object{"name": "Belém", "stars": 5}, object{"name": "Chiado", "stars": 4}},
			"final_output": object{
				"result":         object{"text_result": "Stay at the Belém.", "db_result": []any{object{"name": "Belém", "stars": 5}, object{"name": "Chiado", "stars": 4}}},
				"execution_path": []any{"wish", "choose", "travel", "weather", "hotels", "postcard", "trip"}, "tokens_used": 54, "cost": 0.575,
			},
		},
		path:    []string{"wish", "choose", "travel", "weather", "hotels", "postcard", "trip", "bundle"},
		prompts: []string{"*", "city of a trip to Lisbon", "GET /weather/Lisbon", "draw Lisbon in sunny weather", "plan Lisbon: sunny, Belém"},
		tokens:  54, cost: "0.575",
	},
}
