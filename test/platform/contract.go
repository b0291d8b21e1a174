package platform

import (
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/agentflow/agentflow/services/gateway/contract"
)

// Every answer that a test gets is held against the OpenAPI document of the gateway, which is the same for all
// gateways of one build.
var document struct {
	sync.Mutex
	contract *contract.Contract
}

// Contract is the document of the gateway.
func (p *Platform) Contract(tb testing.TB) (*contract.Contract, error) {
	tb.Helper()
	document.Lock()
	defer document.Unlock()
	if document.contract != nil {
		return document.contract, nil
	}
	raw, err := contract.Fetch(p.Ready().URL, web.Transport)
	if err != nil {
		return nil, err // the platform may be down on purpose
	}
	c, err := contract.Load(raw)
	if err == nil {
		document.contract = c
	}
	return c, err
}

// hold reports an answer that the document does not describe.
func (p *Platform) hold(tb testing.TB, req *http.Request, a Answer) {
	tb.Helper()
	if _, measured := tb.(*testing.B); measured || !contract.Described(req) {
		return
	}
	c, err := p.Contract(tb)
	if err != nil {
		return
	}
	given := contract.Answer{
		Method: req.Method, Path: req.URL.EscapedPath(), Status: a.Status, Media: a.Header.Get("Content-Type"), Body: a.Body,
	}
	if strings.HasPrefix(given.Media, "text/event-stream") {
		given.Body = nil
	}
	if err := c.Check(given); err != nil {
		tb.Error(err)
	}
}
