package egress

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

func guard(t *testing.T, allow string) *Guard {
	t.Helper()
	g, err := New(allow)
	require.NoError(t, err)
	return g
}

// names answers what a test says; each look-up takes the next answer of a name, the last one stays.
type names map[string][][]string

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	answers, ok := n[host]
	if !ok {
		return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
	}
	if len(answers) > 1 {
		n[host] = answers[1:]
	}
	var out []netip.Addr
	for _, text := range answers[0] {
		out = append(out, netip.MustParseAddr(text))
	}
	return out, nil
}

func TestAddressesThatAreNotThePublicInternetAreRefused(t *testing.T) {
	g := guard(t, "")
	for _, text := range []string{
		"0.0.0.0", "0.1.2.3", "10.0.0.1", "10.255.255.255", "100.64.0.1", "100.127.255.254", "127.0.0.1", "127.255.0.9",
		"169.254.0.1", "169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "192.0.0.192",
		"172.16.0.1", "172.31.255.255", "192.0.0.8", "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.19.255.255",
		"198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
		"64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1", "2001:db8::1",
		"2002:7f00:1::", "2002:a9fe:a9fe::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd12:3456::1",
		"fe80::1", "fec0::1", "ff02::1",
	} {
		addr := netip.MustParseAddr(text)
		err := g.CheckAddr(addr)
		var refused *RefusedError
		require.ErrorAs(t, err, &refused, text)
		require.Contains(t, err.Error(), addr.String())
	}
	require.Error(t, g.CheckAddr(netip.MustParseAddr("2606:4700::1%eth0")), "an address with a zone")
	require.Error(t, g.CheckAddr(netip.Addr{}))
}

func TestPublicAddressesPass(t *testing.T) {
	g := guard(t, "")
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255", "128.0.0.1",
		"169.253.255.255", "172.15.255.255", "172.32.0.0", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255",
		"2606:4700:4700::1111", "2a00:1450:4001::200e", "64:ff9b::101:101", "::ffff:1.1.1.1",
	} {
		require.NoError(t, g.CheckAddr(netip.MustParseAddr(text)), text)
	}
}

func TestAllowList(t *testing.T) {
	g := guard(t, " 127.0.0.0/8, ::1 ,10.1.0.0/16,db.internal., *.svc.example ,[fd00::5]")
	for _, text := range []string{"127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.1.255.1", "fd00::5"} {
		require.NoError(t, g.CheckAddr(netip.MustParseAddr(text)), text)
	}
	for _, text := range []string{"10.2.0.1", "192.168.0.1", "fd00::6", "169.254.169.254"} {
		require.Error(t, g.CheckAddr(netip.MustParseAddr(text)), text)
	}
	require.True(t, g.AllowsHost("DB.internal"))
	require.True(t, g.AllowsHost("a.b.svc.example."))
	require.True(t, g.AllowsHost("10.1.2.3"))
	require.False(t, g.AllowsHost("svc.example"))
	require.False(t, g.AllowsHost("evilsvc.example"))
	require.False(t, g.AllowsHost("1.1.1.1"), "a public address is reachable, not trusted")
	wide := guard(t, "0.0.0.0/0, 8.8.8.8")
	require.False(t, wide.AllowsHost("1.1.1.1"), "nor does a wide prefix make it so")
	require.True(t, wide.AllowsHost("10.0.0.1"))
	require.True(t, wide.AllowsHost("8.8.8.8"))

	for _, bad := range []string{"10.0.0.0/33", "a b", "http://x", "x..y", "0x7f000001", "127.1", "*", "*.", "-/8", "::ffff:10.0.0.0/104"} {
		_, err := New(bad)
		require.Error(t, err, bad)
	}
}

func TestMetadataIsNotCoveredByAWidePrefix(t *testing.T) {
	metadata := netip.MustParseAddr("169.254.169.254")
	require.Error(t, guard(t, "0.0.0.0/0").CheckAddr(metadata))
	require.Error(t, guard(t, "169.254.0.0/16").CheckAddr(metadata))
	require.NoError(t, guard(t, "169.254.169.254").CheckAddr(metadata))
	require.NoError(t, guard(t, "0.0.0.0/0").CheckAddr(netip.MustParseAddr("10.0.0.1")))
	require.Error(t, guard(t, "::/0").CheckAddr(netip.MustParseAddr("fd00:ec2::254")))
}

func TestDialRefusesEverySpellingOfALocalAddress(t *testing.T) {
	g := guard(t, "").WithResolver(names{
		"internal.example": {{"10.0.0.7"}}, "mixed.example": {{"::1", "127.0.0.1"}}, "localhost": {{"127.0.0.1"}},
		"metadata.google.internal": {{"169.254.169.254"}},
		// A C library would read these as addresses, so a resolver that did must not be believed.
		"2130706433": {{"1.1.1.1"}}, "0x7f000001": {{"1.1.1.1"}}, "0177.0.0.1": {{"1.1.1.1"}}, "127.1": {{"1.1.1.1"}},
		"0x7f.1": {{"1.1.1.1"}}, "127.0.0.1.": {{"1.1.1.1"}},
	})
	for _, host := range []string{
		"127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "[fe80::1%lo]", "localhost", "internal.example", "mixed.example",
		"metadata.google.internal", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0x7f.1", "127.0.0.1.", "0", "[::]",
	} {
		conn, err := g.DialContext(t.Context(), "tcp", host+":80")
		require.Nil(t, conn, host)
		var refused *RefusedError
		require.ErrorAs(t, err, &refused, host)
		require.Equal(t, "egress", Stage(err))
	}
	_, err := g.DialContext(t.Context(), "unix", "/tmp/socket")
	require.Error(t, err)
	_, err = g.DialContext(t.Context(), "tcp", "nowhere.example:80")
	require.Equal(t, "name", Stage(err))
	_, err = g.DialContext(t.Context(), "tcp", "a.example:http")
	require.Error(t, err, "a named port")
}

// A name that is public when it is judged and local when it is dialed is the rebinding attack:
// the address that was judged has to be the one that is dialed.
func TestRebindingDialsTheAddressThatWasJudged(t *testing.T) {
	var hits atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hits.Add(1) }))
	defer server.Close()
	port := server.Listener.Addr().(*net.TCPAddr).Port

	resolver := names{"rebind.example": {{"203.0.113.77"}, {"127.0.0.1"}, {"127.0.0.1"}}}
	g := guard(t, "203.0.113.77").WithResolver(resolver)
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // nothing answers at the first address: only where the dial goes matters
	_, err := g.DialContext(ctx, "tcp", fmt.Sprintf("rebind.example:%d", port))
	require.Error(t, err)
	require.NotContains(t, err.Error(), "127.0.0.1")
	_, err = g.DialContext(t.Context(), "tcp", fmt.Sprintf("rebind.example:%d", port))
	var refused *RefusedError
	require.ErrorAs(t, err, &refused, "the second look-up is judged again")
	require.Zero(t, hits.Load())
}

func TestOnlyTheAllowedAddressesOfANameAreDialed(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer server.Close()
	g := guard(t, "127.0.0.1").WithResolver(names{"two.example": {{"10.0.0.1", "127.0.0.1"}}})
	client := g.Client(g.Transport(), 100)
	resp, err := client.Get(strings.Replace(server.URL, "127.0.0.1", "two.example", 1))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
}

func TestANameOnTheAllowListMayBePrivate(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	defer server.Close()
	g := guard(t, "db.internal").WithResolver(names{"db.internal": {{"127.0.0.1"}}, "other.internal": {{"127.0.0.1"}}})
	client := g.Client(g.Transport(), 100)
	resp, err := client.Get(strings.Replace(server.URL, "127.0.0.1", "db.internal", 1))
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	_, err = client.Get(strings.Replace(server.URL, "127.0.0.1", "other.internal", 1)) //nolint:bodyclose // it fails
	require.Error(t, err)
}

func TestRedirectsAreJudgedLikeTheFirstCall(t *testing.T) {
	var target atomic.Value
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, target.Load().(string), http.StatusFound)
	}))
	defer server.Close()
	g := guard(t, "127.0.0.1/32")
	client := g.Client(g.Transport(), 1000)
	for _, to := range []string{
		"http://169.254.169.254/latest/meta-data", "http://[::1]:1/", "http://10.0.0.1/", "http://0x7f000001/", "http://[::ffff:10.0.0.1]/",
	} {
		target.Store(to)
		_, err := client.Get(server.URL) //nolint:bodyclose // it fails
		var refused *RefusedError
		require.ErrorAs(t, err, &refused, to)
	}
	target.Store("file:///etc/passwd")
	_, err := client.Get(server.URL) //nolint:bodyclose // it fails
	require.Error(t, err)
	target.Store(server.URL + "/again")
	_, err = client.Get(server.URL) //nolint:bodyclose // it fails
	require.ErrorContains(t, err, "5 redirects")
}

func TestCredentialsStayBehindWhenARedirectLeavesTheOrigin(t *testing.T) {
	seen := make(chan http.Header, 10)
	other := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header }))
	defer other.Close()
	var to string
	code := http.StatusFound
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/same" {
			seen <- r.Header
			return
		}
		http.Redirect(w, r, to, code)
	}))
	defer server.Close()
	g := guard(t, "127.0.0.1")
	client := g.Client(g.Transport(), 1000)
	call := func(method string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(t.Context(), method, server.URL, strings.NewReader("body"))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer planted")
		req.Header.Set("X-Api-Key", "planted")
		req.Header.Set("Cookie", "a=planted")
		req.Header.Set("Accept", "application/json")
		return client.Do(req)
	}
	to = other.URL
	resp, err := call(http.MethodGet)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	header := <-seen
	require.Equal(t, "application/json", header.Get("Accept"))
	require.NotContains(t, fmt.Sprint(header), "planted")

	to = server.URL + "/same"
	resp, err = call(http.MethodGet)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	require.Equal(t, "planted", (<-seen).Get("X-Api-Key"), "the same origin keeps them")

	to, code = other.URL, http.StatusTemporaryRedirect
	_, err = call(http.MethodPost) //nolint:bodyclose // it fails
	require.ErrorContains(t, err, "may not carry a request body")
}

func TestARedirectBackHomeDoesNotBringTheCredentialsBack(t *testing.T) {
	origin, _ := url.Parse("https://a.example/1")
	foreign, _ := url.Parse("https://b.example/2")
	back, _ := url.Parse("https://a.example/3")
	req := &http.Request{Method: http.MethodGet, URL: back, Header: http.Header{"Authorization": {"x"}}}
	require.NoError(t, checkRedirect(req, []*http.Request{{URL: origin}, {URL: foreign}}))
	require.Empty(t, req.Header)
	downgrade, _ := url.Parse("http://a.example/1")
	req = &http.Request{Method: http.MethodGet, URL: downgrade, Header: http.Header{"Authorization": {"x"}}}
	require.NoError(t, checkRedirect(req, []*http.Request{{URL: origin}}))
	require.Empty(t, req.Header, "http is another origin than https")
}

func TestBodiesAreCappedAfterDecompression(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/bomb":
			w.Header().Set("Content-Encoding", "gzip")
			zip := gzip.NewWriter(w)
			_, _ = io.WriteString(zip, strings.Repeat("0", 1<<20))
			_ = zip.Close()
		case "/announced":
			w.Header().Set("Content-Length", "2000")
			_, _ = io.WriteString(w, strings.Repeat("x", 2000))
		case "/chunked":
			_, _ = io.WriteString(w, strings.Repeat("x", 900))
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, strings.Repeat("x", 101))
		case "/exact":
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, strings.Repeat("x", 1000))
		}
	}))
	defer server.Close()
	g := guard(t, "127.0.0.1")
	client := g.Client(g.Transport(), 1000)
	read := func(path string) (int, error) {
		resp, err := client.Get(server.URL + path)
		if err != nil {
			return 0, err
		}
		raw, err := io.ReadAll(resp.Body)
		return len(raw), errors.Join(err, resp.Body.Close())
	}
	for _, path := range []string{"/bomb", "/announced", "/chunked"} {
		n, err := read(path)
		var large *TooLargeError
		require.ErrorAs(t, err, &large, path)
		require.LessOrEqual(t, n, 1000)
	}
	n, err := read("/exact")
	require.NoError(t, err)
	require.Equal(t, 1000, n)
}

func TestNoProxyFromTheEnvironment(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	require.Nil(t, guard(t, "").Transport().Proxy)
}

func TestStages(t *testing.T) {
	g := guard(t, "127.0.0.1")
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	_, err = g.DialContext(t.Context(), "tcp", address)
	require.Equal(t, "tcp", Stage(err))

	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0)
	tls.StartTLS()
	defer tls.Close()
	client := g.Client(g.Transport(), 10)
	_, err = client.Get(tls.URL) //nolint:bodyclose // it fails
	require.Equal(t, "tls", Stage(err), "an unknown authority: %v", err)
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	_, err = client.Get(strings.Replace(plain.URL, "http", "https", 1)) //nolint:bodyclose // it fails
	require.Equal(t, "tls", Stage(err), "no TLS at all: %v", err)

	require.Empty(t, Stage(nil))
	require.Equal(t, "timeout", Stage(context.DeadlineExceeded))
	require.Empty(t, Stage(errors.New("x")))
}

func FuzzDialNeverReachesALocalAddress(f *testing.F) {
	for _, seed := range []string{"127.0.0.1", "0x7f.0.0.1", "[::ffff:7f00:1]", "localhost", "2130706433", "::1"} {
		f.Add(seed)
	}
	g, err := New("")
	if err != nil {
		f.Fatal(err)
	}
	g = g.WithResolver(names{"localhost": {{"127.0.0.1"}}})
	f.Fuzz(func(t *testing.T, host string) {
		addrs, _, err := g.resolve(t.Context(), host)
		if err != nil {
			return
		}
		for _, addr := range addrs {
			if addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || addr.IsMulticast() {
				t.Fatalf("%q would dial %s", host, addr)
			}
		}
	})
}
