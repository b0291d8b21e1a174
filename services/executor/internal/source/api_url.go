package source

import (
	"net/url"
	"strings"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// target makes the URL of a call. The scheme and host are the author's words alone: they come
// from base_url, or from the literal start of the endpoint, and no value can change them.
func (c *call) target(req HTTPRequest) (*url.URL, error) {
	endpoint := strings.TrimSpace(req.Endpoint)
	base := c.config.text("base_url")
	absolute := isAbsolute(endpoint)
	if base == "" && !absolute {
		return nil, c.invalid("endpoint must start with http:// or https:// and a host, because the source has no base_url")
	}
	var origin *url.URL
	var err error
	if base != "" {
		if origin, err = absoluteURL("base_url", base); err != nil {
			return nil, c.invalid("%s", err.Error())
		}
	} else if origin, err = absoluteURL("endpoint", literalOrigin(endpoint)); err != nil {
		return nil, c.invalid("%s; the scheme and host must be written out and end in /", err.Error())
	}
	text, err := c.fillEndpoint(endpoint, req.Values)
	if err != nil {
		return nil, err
	}
	if !absolute {
		text = strings.TrimSuffix(base[:pathEnd(base)], "/") + joinEndpoint(text)
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, c.invalid("the endpoint does not make a URL")
	}
	if u.Scheme != origin.Scheme || !strings.EqualFold(u.Host, origin.Host) || u.User != nil {
		return nil, c.invalid("the endpoint leaves %s://%s: a source calls the host of its base_url only", origin.Scheme, origin.Host)
	}
	for segment := range strings.SplitSeq(u.EscapedPath(), "/") {
		if plain, err := url.PathUnescape(segment); err != nil || plain == "." || plain == ".." {
			return nil, c.invalid("the endpoint has a path segment %q", segment)
		}
	}
	u.Fragment, u.RawFragment = "", ""
	query, err := c.fillQuery(req.Query, req.Values)
	if err != nil {
		return nil, err
	}
	if !absolute && origin.RawQuery != "" {
		u.RawQuery = joinQuery(origin.RawQuery, u.RawQuery)
	}
	u.RawQuery = joinQuery(u.RawQuery, query.Encode())
	return u, nil
}

func isAbsolute(endpoint string) bool {
	lower := strings.ToLower(endpoint)
	return strings.HasPrefix(lower, "http://") || strings.HasPrefix(lower, "https://")
}

// literalOrigin is the part of an absolute endpoint up to the end of its host, "" when a
// placeholder stands before that end: "https://api{x}/" must not become "https://api.evil/".
func literalOrigin(endpoint string) string {
	parts := workflow.CompileTemplate(endpoint).Parts()
	if len(parts) == 0 || parts[0].Placeholder() {
		return ""
	}
	first := parts[0].Text
	start := strings.Index(first, "://") + 3
	if end := strings.IndexAny(first[start:], `/?#\`); end >= 0 {
		return first[:start+end]
	}
	if len(parts) > 1 {
		return ""
	}
	return first
}

// pathEnd is where the path of a base URL ends and its query begins.
func pathEnd(base string) int {
	if i := strings.IndexAny(base, "?#"); i >= 0 {
		return i
	}
	return len(base)
}

func joinEndpoint(endpoint string) string {
	if endpoint == "" || endpoint[0] == '?' {
		return endpoint
	}
	return "/" + strings.TrimLeft(endpoint, "/")
}

func joinQuery(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "&" + b
}

// fillEndpoint fills the template of a path, which may go on into a query. In the path a value
// is one piece of a segment: it cannot add a slash, go up, or be empty.
func (c *call) fillEndpoint(endpoint string, values workflow.Values) (string, error) {
	var b strings.Builder
	inQuery := false
	for _, part := range workflow.CompileTemplate(endpoint).Parts() {
		if !part.Placeholder() {
			inQuery = inQuery || strings.ContainsRune(part.Text, '?')
			b.WriteString(part.Text)
			continue
		}
		value, ok := part.Value(values)
		if !ok {
			return "", c.invalid("endpoint: the state has nothing for %s", part.Text)
		}
		text, err := workflow.Text(value)
		if err != nil {
			return "", c.invalid("endpoint: %s: %s", part.Text, err.Error())
		}
		if inQuery {
			b.WriteString(url.QueryEscape(text))
			continue
		}
		if workflow.Empty(value) {
			return "", c.invalid("endpoint: %s is empty, and the path would mean something else", part.Text)
		}
		for _, piece := range strings.FieldsFunc(text, func(r rune) bool { return r == '/' || r == '\\' }) {
			if piece == "." || piece == ".." {
				return "", c.invalid("endpoint: the value of %s must not hold a path segment %q", part.Text, piece)
			}
		}
		b.WriteString(url.PathEscape(text))
	}
	return b.String(), nil
}

// fillQuery fills the values of query parameters. A string that is one placeholder takes the
// value's own shape: a list gives the parameter once per item, null leaves it out.
func (c *call) fillQuery(params map[string]any, values workflow.Values) (url.Values, error) {
	query := url.Values{}
	for _, name := range sortedKeys(params) {
		filled, err := fillJSON(params[name], values)
		if err != nil {
			return nil, c.invalid("params.%s: %s", name, err.Error())
		}
		items, many := filled.([]any)
		if !many {
			items = []any{filled}
		}
		for _, item := range items {
			if item == nil {
				continue
			}
			text, err := workflow.Text(item)
			if err != nil {
				return nil, c.invalid("params.%s: %s", name, err.Error())
			}
			query.Add(name, text)
		}
	}
	return query, nil
}
