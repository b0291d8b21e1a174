package source

import (
	"net/http"
	"net/textproto"

	"golang.org/x/net/http/httpguts"

	"github.com/agentflow/agentflow/pkg/workflow"
)

// forbiddenHeaders belong to the connection, not to the author of a request.
var forbiddenHeaders = map[string]bool{
	"Host": true, "Content-Length": true, "Transfer-Encoding": true, "Connection": true, "Keep-Alive": true,
	"Proxy-Authorization": true, "Proxy-Connection": true, "Te": true, "Trailer": true, "Upgrade": true,
	"Accept-Encoding": true, // the transport undoes what it asks for itself, under the size cap
	"Expect":          true,
}

func canonical(name string) string { return textproto.CanonicalMIMEHeaderKey(name) }

func validHeaderName(name string) bool   { return httpguts.ValidHeaderFieldName(name) }
func validHeaderValue(value string) bool { return httpguts.ValidHeaderFieldValue(value) }

// headers puts the source's headers and the request's together. Names are never templates; a
// value with a line break is refused rather than cleaned, because its author meant something else.
func (c *call) headers(req HTTPRequest) (http.Header, error) {
	header := http.Header{}
	for name, value := range c.config.strings("headers") {
		if err := c.setHeader(header, name, value); err != nil {
			return nil, err
		}
	}
	for _, name := range sortedKeys(req.Headers) {
		value, err := workflow.CompileTemplate(req.Headers[name]).Render(req.Values)
		if err != nil {
			return nil, c.invalid("headers.%s: %s", name, err.Error())
		}
		if err := c.setHeader(header, name, value); err != nil {
			return nil, err
		}
	}
	return header, nil
}

func (c *call) setHeader(header http.Header, name, value string) error {
	switch {
	case !validHeaderName(name):
		return c.invalid("%.60q is not the name of a header", name)
	case forbiddenHeaders[canonical(name)]:
		return c.invalid("the header %s may not be set", canonical(name))
	case !validHeaderValue(value):
		return c.invalid("the value of header %s has a line break or a control character", canonical(name))
	}
	header.Set(name, value)
	return nil
}
