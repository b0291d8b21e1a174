package bench

import (
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSend(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Header.Get("X-API-Key") != "secret":
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/limited":
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"code":"RATE_LIMITED"}`))
		case r.URL.Path == "/gone":
			conn, _, _ := w.(http.Hijacker).Hijack()
			_ = conn.Close()
		default:
			_, _ = w.Write([]byte(`{"status":"success"}`))
		}
	}))
	defer server.Close()
	a, err := newAPI(server.URL, "secret", 1)
	require.NoError(t, err)
	defer a.close()
	r := a.request(http.MethodPost, "/good", []byte(`{}`))
	require.Empty(t, r.send(http.StatusOK, []byte(`"success"`)))
	require.Empty(t, r.send(http.StatusOK, nil))
	require.Equal(t, "wrong answer", r.send(http.StatusOK, []byte(`"failure"`)))
	require.ErrorContains(t, r.explain("wrong answer"), `wrong answer: 200 {"status":"success"}`)
	require.Equal(t, "200", r.send(http.StatusCreated, nil))
	r.path("/limited")
	require.Equal(t, "429 RATE_LIMITED", r.send(http.StatusOK, nil))
	r.path("/gone")
	require.Equal(t, "connection closed", r.send(http.StatusOK, nil))
	require.EqualError(t, r.explain("connection closed"), "connection closed")

	stranger, err := newAPI(server.URL, "", 1)
	require.NoError(t, err)
	defer stranger.close()
	require.Equal(t, "401", stranger.request(http.MethodGet, "/", nil).send(http.StatusOK, nil))
}

func TestSendToNobody(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	a, err := newAPI("http://"+l.Addr().String(), "", 1)
	require.NoError(t, err)
	require.Equal(t, "connection refused", a.request(http.MethodGet, "/", nil).send(http.StatusOK, nil))
}

func TestOutside(t *testing.T) {
	t.Parallel()
	out, err := startOutside(t.Context())
	require.NoError(t, err)
	a, err := newAPI(out.url, "", 1)
	require.NoError(t, err)
	require.Empty(t, a.request(http.MethodGet, "/orders/1", nil).send(http.StatusOK, []byte(`"status":"shipped"`)))
	a.close()
	require.NoError(t, out.close(t.Context()))
	require.Equal(t, "connection refused", a.request(http.MethodGet, "/", nil).send(http.StatusOK, nil))
}

func TestOutsideEndsAtOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		out, err := startOutside(t.Context())
		require.NoError(t, err)
		require.NoError(t, out.close(t.Context()))
	}
}
