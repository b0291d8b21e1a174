package bench

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"syscall"
	"time"

	"github.com/valyala/fasthttp" //nolint:depguard // the client must cost little beside what it measures
)

// answerPatience is how long an answer may take. An execution gets 5 min by default; no workload here needs that.
const answerPatience = time.Minute

// api is the REST API of a platform, reached with as little work as possible.
type api struct {
	base string
	key  string
	host *fasthttp.HostClient
}

func newAPI(address, key string, clients int) (*api, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, fmt.Errorf("address of the platform: %w", err)
	}
	return &api{base: address, key: key, host: &fasthttp.HostClient{
		Addr: fasthttp.AddMissingPort(u.Host, u.Scheme == "https"), IsTLS: u.Scheme == "https",
		MaxConns: clients + 1, MaxIdleConnDuration: time.Minute, // a request on a connection that the server has given up would count as failed
		// Another try would hide what went wrong.
		MaxIdemponentCallAttempts: 1, RetryIfErr: func(*fasthttp.Request, int, error) (bool, bool) { return false, false },
		NoDefaultUserAgentHeader: true, DisablePathNormalizing: true,
		ReadBufferSize: 16 << 10, MaxResponseBodySize: 64 << 20,
	}}, nil
}

func (a *api) close() { a.host.CloseIdleConnections() }

// request is one that is made over and over.
type request struct {
	api  *api
	req  *fasthttp.Request
	resp *fasthttp.Response
	said bool // there was an answer to the last
}

func (a *api) request(method, path string, body []byte) *request {
	r := &request{api: a, req: &fasthttp.Request{}, resp: &fasthttp.Response{}}
	r.req.Header.SetMethod(method)
	r.path(path)
	if a.key != "" {
		r.req.Header.Set("X-API-Key", a.key)
	}
	if body != nil {
		r.req.Header.SetContentType("application/json")
		r.req.SetBodyRaw(body)
	}
	return r
}

func (r *request) path(path string) { r.req.SetRequestURI(r.api.base + path) }

// send makes the request and says what is wrong with the answer, which must have that status and hold that text.
func (r *request) send(status int, text []byte) (fault string) {
	err := r.api.host.DoTimeout(r.req, r.resp, answerPatience)
	r.said = err == nil
	switch {
	case err != nil:
		return connectionFault(err)
	case r.resp.StatusCode() != status:
		return refused(r.resp.StatusCode(), r.resp.Body())
	case !bytes.Contains(r.resp.Body(), text):
		return "wrong answer"
	}
	return ""
}

// connectionFault sorts errors into few kinds: an error's text may hold a port, and no two would be alike.
func connectionFault(err error) string {
	var netErr net.Error
	switch {
	case errors.Is(err, fasthttp.ErrTimeout), errors.As(err, &netErr) && netErr.Timeout():
		return "no answer within " + answerPatience.String()
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, fasthttp.ErrConnectionClosed):
		return "connection closed"
	case errors.Is(err, fasthttp.ErrNoFreeConns):
		return "no free connection"
	}
	return "connection failed"
}

// refused names a problem by status and code.
func refused(status int, body []byte) string {
	var problem struct {
		Code string `json:"code"`
	}
	if err := json.Unmarshal(body, &problem); err != nil || problem.Code == "" {
		return strconv.Itoa(status)
	}
	return strconv.Itoa(status) + " " + problem.Code
}

// explain adds the last answer to what was wrong with it.
func (r *request) explain(fault string) error {
	if !r.said {
		return errors.New(fault)
	}
	const enough = 1000
	body := r.resp.Body()
	if len(body) > enough {
		body = body[:enough]
	}
	return fmt.Errorf("%s: %d %s", fault, r.resp.StatusCode(), body)
}
