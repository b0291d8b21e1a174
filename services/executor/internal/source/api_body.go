package source

import (
	"bytes"
	"encoding/json"
	"io"
	"mime"
	"net/url"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// Types of body.
const (
	bodyJSON = "json"
	bodyForm = "form"
	bodyText = "text"
)

// body fills a request body and answers it with the content type it has when no header says so.
func (c *call) body(req HTTPRequest, contentType string) (io.Reader, string, error) {
	if req.Body == nil {
		return nil, "", nil
	}
	kind, err := c.bodyType(req, contentType)
	if err != nil {
		return nil, "", err
	}
	switch kind {
	case bodyForm:
		return c.formBody(req)
	case bodyText:
		return c.textBody(req)
	default:
		return c.jsonBody(req)
	}
}

func (c *call) bodyType(req HTTPRequest, contentType string) (string, error) {
	switch req.BodyType {
	case bodyJSON, bodyForm, bodyText:
		return req.BodyType, nil
	case "":
	default:
		return "", c.invalid("body_type %.20q is not one of json, form, text", req.BodyType)
	}
	media, _, _ := mime.ParseMediaType(contentType)
	switch {
	case strings.HasPrefix(media, "multipart/"):
		return "", c.invalid("a multipart body cannot be made from a template; send json, form or text")
	case media == "application/x-www-form-urlencoded":
		return bodyForm, nil
	case isJSONType(media):
		return bodyJSON, nil
	case media != "":
		return bodyText, nil
	}
	if text, ok := req.Body.(string); ok {
		if trimmed := strings.TrimSpace(text); !strings.HasPrefix(trimmed, "{") && !strings.HasPrefix(trimmed, "[") ||
			!json.Valid([]byte(trimmed)) {
			return bodyText, nil
		}
	}
	return bodyJSON, nil
}

// jsonBody fills a JSON value: values go in as decoded strings or as JSON, so that none of them
// can end the string it stands in.
func (c *call) jsonBody(req HTTPRequest) (io.Reader, string, error) {
	const contentType = "application/json"
	if text, ok := req.Body.(string); ok {
		if part := workflow.CompileTemplate(text).Parts(); len(part) != 1 || !part[0].Placeholder() {
			filled, err := c.fillJSONText(text, req.Values)
			return strings.NewReader(filled), contentType, err
		}
	}
	filled, err := fillJSON(req.Body, req.Values)
	if err != nil {
		return nil, "", c.invalid("body: %s", err.Error())
	}
	raw, err := workflow.AppendJSON(nil, filled)
	if err != nil {
		return nil, "", c.invalid("body: %s", err.Error())
	}
	return bytes.NewReader(raw), contentType, nil
}

// fillJSONText fills a body that was written as JSON text, such as {"q": "{question}", "n": {count}}:
// inside a string a value is escaped for the string, outside one it is a JSON value of its own.
func (c *call) fillJSONText(text string, values workflow.Values) (string, error) {
	var out []byte
	inString := false
	for _, part := range workflow.CompileTemplate(text).Parts() {
		if !part.Placeholder() {
			inString = scanJSON(part.Text, inString)
			out = append(out, part.Text...)
			continue
		}
		value, ok := part.Value(values)
		if !ok {
			out = append(out, part.Text...)
			continue
		}
		if inString {
			text, err := workflow.Text(value)
			if err != nil {
				return "", c.invalid("body: %s: %s", part.Text, err.Error())
			}
			value = text
		}
		raw, err := workflow.AppendJSON(nil, value)
		if err != nil {
			return "", c.invalid("body: %s: %s", part.Text, err.Error())
		}
		if inString {
			raw = raw[1 : len(raw)-1]
		}
		out = append(out, raw...)
	}
	if !json.Valid(out) {
		return "", c.invalid("body: the template does not make valid JSON")
	}
	return string(out), nil
}

// scanJSON tells whether a JSON text that began inside or outside a string ends inside one.
func scanJSON(text string, inString bool) bool {
	for i := 0; i < len(text); i++ {
		switch {
		case inString && text[i] == '\\':
			i++
		case text[i] == '"':
			inString = !inString
		}
	}
	return inString
}

func (c *call) formBody(req HTTPRequest) (io.Reader, string, error) {
	const contentType = "application/x-www-form-urlencoded"
	if text, ok := req.Body.(string); ok {
		filled, err := workflow.CompileTemplate(text).RenderFunc(req.Values, url.QueryEscape)
		if err != nil {
			return nil, "", c.invalid("body: %s", err.Error())
		}
		return strings.NewReader(filled), contentType, nil
	}
	fields, ok := req.Body.(map[string]any)
	if !ok {
		return nil, "", c.invalid("body: a form is an object of fields")
	}
	form, err := c.fillQuery(fields, req.Values)
	if err != nil {
		return nil, "", err
	}
	return strings.NewReader(form.Encode()), contentType, nil
}

func (c *call) textBody(req HTTPRequest) (io.Reader, string, error) {
	filled, err := fillJSON(req.Body, req.Values)
	if err != nil {
		return nil, "", c.invalid("body: %s", err.Error())
	}
	text, err := workflow.Text(filled)
	if err != nil {
		return nil, "", c.invalid("body: %s", err.Error())
	}
	return strings.NewReader(text), "text/plain; charset=utf-8", nil
}

func isJSONType(media string) bool {
	return media == "application/json" || strings.HasSuffix(media, "+json") || media == "text/json"
}
