package api

import (
	"net"
	"slices"
	"strings"

	"github.com/gofiber/fiber/v2"
)

// A gateway that asks for no keys trusts whoever reaches it. On a laptop that includes every page the
// browser shows: a page may send a form or plain text to any address without asking first, and with a
// name that it lets point to 127.0.0.1 (DNS rebinding) it may read the answer too. Programs send
// neither an Origin nor a name of somebody else's, so only pages are refused here.

// foreign refuses a request without a key that a page of another site has made.
func (s *Server) foreign(c *fiber.Ctx) error {
	host := c.Get(fiber.HeaderHost)
	if s.loopback && !ownName(host) && !s.listed(host) {
		return newProblem(codeForeign, "this gateway asks for no keys and serves this machine alone, by an address such as localhost, not by the name "+shown(host))
	}
	switch c.Method() {
	case fiber.MethodGet, fiber.MethodHead, fiber.MethodOptions:
		return nil // the browser keeps the answer from the page
	}
	origin := c.Get(fiber.HeaderOrigin)
	if origin == "" || s.allowed(origin) {
		return nil
	}
	if _, own, found := strings.Cut(origin, "://"); found && own == host {
		return nil
	}
	return newProblem(codeForeign, "this gateway asks for no keys, so it takes no writes from pages of other sites: "+shown(origin))
}

// allowed tells whether CORS_ORIGINS names an origin.
func (s *Server) allowed(origin string) bool {
	return slices.Contains(s.opts.CORSOrigins, "*") || slices.Contains(s.opts.CORSOrigins, origin)
}

// listed tells whether CORS_ORIGINS names an origin at a host: the gateway is meant to be reached by it.
func (s *Server) listed(host string) bool {
	return s.allowed("http://"+host) || s.allowed("https://"+host)
}

// ownName tells whether a Host is this machine, whoever resolves it. No host at all is a program of
// the time before HTTP/1.1.
func ownName(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "" || name == "localhost" || strings.HasSuffix(name, ".localhost") {
		return true
	}
	ip := net.ParseIP(name)
	return ip != nil && ip.IsLoopback()
}

func isLoopback(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// shown is a header of the request, short enough for an answer. The text outlives fiber's buffer.
func shown(text string) string {
	const most = 100
	if len(text) > most {
		text = text[:most] + "…"
	}
	return strings.Clone(text)
}
