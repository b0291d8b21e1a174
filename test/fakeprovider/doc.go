// Package fakeprovider is a model provider for tests: an HTTP server on a loopback socket that speaks the wire formats
// of OpenAI, Gemini and Anthropic as their SDKs expect them, and beside them plain HTTP for workflows that call an API.
//
// A [Script] decides every answer, from the request alone, so that a test may call it in any order and in parallel. The
// server remembers what it was asked, with headers. It is not a model: it never makes up an answer.
package fakeprovider
