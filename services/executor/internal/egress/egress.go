// Package egress decides which addresses this platform may call, and holds the dialer that makes
// the decision stick: a name is resolved once, every address it has is judged, and the very
// address that was judged is dialed. What a name resolves to a moment later does not matter.
//
// It is a door, not a proxy: it knows nothing of tenants, sources or secrets.
package egress

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// RefusedError is the error of an address the platform may not call.
type RefusedError struct {
	Host   string // as the caller wrote it
	Addr   netip.Addr
	Reason string
}

func (e *RefusedError) Error() string {
	at := e.Host
	if e.Addr.IsValid() && e.Addr.String() != e.Host {
		at += " (" + e.Addr.String() + ")"
	}
	return fmt.Sprintf("egress to %s is refused: %s; an operator can allow it with EGRESS_ALLOW", at, e.Reason)
}

// Resolver finds the addresses of a name; *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Guard is the policy and the dialer that enforces it. It is immutable once made.
type Guard struct {
	allowNets  []netip.Prefix
	allowHosts map[string]bool // lower case, without a trailing dot
	allowZones []string        // ".example.internal" for "*.example.internal"
	resolver   Resolver
}

// New reads an allow list: comma-separated CIDRs, addresses and host names ("*." in front of a
// name covers everything below it). An empty list allows public addresses only.
func New(allow string) (*Guard, error) {
	g := &Guard{allowHosts: map[string]bool{}, resolver: net.DefaultResolver}
	for item := range strings.SplitSeq(allow, ",") {
		item = strings.ToLower(strings.TrimSpace(item))
		if item == "" {
			continue
		}
		if prefix, err := netip.ParsePrefix(item); err == nil {
			if prefix.Addr().Is4In6() {
				return nil, fmt.Errorf("%q: write the IPv4 prefix itself", item)
			}
			g.allowNets = append(g.allowNets, prefix.Masked())
			continue
		}
		if addr, err := netip.ParseAddr(strings.Trim(item, "[]")); err == nil {
			addr = addr.Unmap().WithZone("")
			g.allowNets = append(g.allowNets, netip.PrefixFrom(addr, addr.BitLen()))
			continue
		}
		if zone, ok := strings.CutPrefix(item, "*."); ok && validHost(zone) {
			g.allowZones = append(g.allowZones, "."+strings.TrimSuffix(zone, "."))
			continue
		}
		if !validHost(item) {
			return nil, fmt.Errorf("%q is neither a CIDR, an address nor a host name", item)
		}
		g.allowHosts[strings.TrimSuffix(item, ".")] = true
	}
	return g, nil
}

// WithResolver returns a guard with the same policy that asks r for addresses.
func (g *Guard) WithResolver(r Resolver) *Guard {
	c := *g
	c.resolver = r
	return &c
}

// AllowsHost tells whether an operator listed this very host, by name or by address: such a host
// is trusted, not merely reachable.
func (g *Guard) AllowsHost(host string) bool {
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if g.allowHosts[host] {
		return true
	}
	for _, zone := range g.allowZones {
		if strings.HasSuffix(host, zone) {
			return true
		}
	}
	addr, err := netip.ParseAddr(host)
	// A wide prefix such as 0.0.0.0/0 says what may be reached, not who is trusted: of public
	// addresses it covers everybody's.
	return err == nil && g.listed(addr.Unmap()) && (forbidden(addr) != "" || g.listedAlone(addr.Unmap()))
}

func (g *Guard) listedAlone(addr netip.Addr) bool {
	return slices.ContainsFunc(g.allowNets, func(p netip.Prefix) bool { return p.IsSingleIP() && p.Contains(addr) })
}

// CheckAddr judges one address.
func (g *Guard) CheckAddr(addr netip.Addr) error { return g.check(addr.String(), addr) }

func (g *Guard) check(host string, addr netip.Addr) error {
	reason := forbidden(addr)
	if reason == "" || g.listed(addr.Unmap().WithZone("")) {
		return nil
	}
	return &RefusedError{Host: host, Addr: addr, Reason: reason}
}

// listed tells whether the allow list covers addr. A metadata address hands out the machine's own
// credentials, so a wide prefix does not cover it: it must be listed by itself.
func (g *Guard) listed(addr netip.Addr) bool {
	for _, prefix := range g.allowNets {
		if prefix.Contains(addr) && (prefix.IsSingleIP() || !isMetadata(addr)) {
			return true
		}
	}
	return false
}

// dialTimeout bounds one TCP handshake; a name with several addresses tries each of them.
const dialTimeout = 10 * time.Second

// DialContext resolves the host of address, refuses it unless the policy lets one of its
// addresses pass, and dials those in order. It has the signature of net.Dialer.DialContext.
func (g *Guard) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if !strings.HasPrefix(network, "tcp") {
		return nil, &RefusedError{Host: address, Reason: "only TCP may leave, not " + network}
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", address, err)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return nil, fmt.Errorf("address %q: port must be a number", address)
	}
	addrs, trusted, err := g.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	dialer := net.Dialer{Timeout: dialTimeout, KeepAlive: 30 * time.Second}
	dialer.Control = func(_, at string, _ syscall.RawConn) error {
		// The last word before connect(2), whatever led here.
		got, err := netip.ParseAddrPort(at)
		if err != nil {
			return &RefusedError{Host: at, Reason: "not an address"}
		}
		if trusted {
			return nil
		}
		return g.check(host, got.Addr())
	}
	var failed error
	for _, addr := range addrs {
		conn, err := dialer.DialContext(ctx, network, net.JoinHostPort(addr.String(), port))
		if err == nil {
			return conn, nil
		}
		failed = errors.Join(failed, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, failed
}

// resolve answers the addresses of host that may be dialed; trusted says that the host is on the
// allow list by name, so that its addresses are the operator's business.
func (g *Guard) resolve(ctx context.Context, host string) (addrs []netip.Addr, trusted bool, err error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" {
			return nil, false, &RefusedError{Host: host, Addr: addr, Reason: "an address with a zone is local"}
		}
		if err := g.check(host, addr); err != nil {
			return nil, false, err
		}
		return []netip.Addr{addr.Unmap()}, false, nil
	}
	trusted = g.AllowsHost(host)
	if !trusted && endsInNumber(host) {
		return nil, false, &RefusedError{Host: host, Reason: "an address must be written as four decimal numbers"}
	}
	found, err := g.resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, false, err
	}
	if len(found) == 0 {
		return nil, false, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	var refused error
	for _, addr := range found {
		addr = addr.Unmap()
		if !trusted {
			if err := g.check(host, addr); err != nil {
				refused = err
				continue
			}
		}
		addrs = append(addrs, addr)
	}
	if len(addrs) == 0 {
		return nil, false, refused
	}
	return addrs, trusted, nil
}

// endsInNumber tells whether the last label of a host makes C libraries read it as an IPv4
// address: 127.1, 2130706433, 0x7f000001, 0177.0.0.1.
func endsInNumber(host string) bool {
	host = strings.TrimSuffix(host, ".")
	last := strings.ToLower(host[strings.LastIndexByte(host, '.')+1:])
	if last == "" {
		return true
	}
	if hex, ok := strings.CutPrefix(last, "0x"); ok {
		return strings.Trim(hex, "0123456789abcdef") == ""
	}
	return strings.Trim(last, "0123456789") == ""
}

// validHost tells whether the text is shaped like a host name.
func validHost(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 || endsInNumber(host) {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for _, r := range label {
			if r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'a' || r > 'z') {
				return false
			}
		}
	}
	return true
}
