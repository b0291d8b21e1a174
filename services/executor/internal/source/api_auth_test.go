package source

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/services/executor/internal/secret"
)

func TestAuthTypes(t *testing.T) {
	env := map[string]string{
		"TENANT_ACME_KEY": "planted-key-1", "TENANT_ACME_TOKEN": "planted-token-2", "TENANT_ACME_USER": "planted-user",
		"TENANT_ACME_PASS": "planted-pass:3",
	}
	b := newBench(t, env)
	header := make(chan http.Header, 1)
	base := startServer(t, func(w http.ResponseWriter, r *http.Request) {
		header <- r.Header
		// A peer that echoes what it was sent must not carry a secret into the state of an execution.
		w.Header().Set("X-Echo", r.Header.Get("Authorization"))
		writeJSON(w, 200, toJSON(t, map[string]any{"got": r.Header}))
	})
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte("planted-user:planted-pass:3"))
	for name, test := range map[string]struct {
		config []any
		header string
		want   string
	}{
		"api_key":         {[]any{"auth_type", "api_key", "api_key_env", "TENANT_ACME_KEY"}, "X-Api-Key", "planted-key-1"},
		"api_key guessed": {[]any{"auth_env", "TENANT_ACME_KEY", "api_key_header", "X-Token"}, "X-Token", "planted-key-1"},
		"bearer":          {[]any{"auth_type", "bearer", "token_env", "TENANT_ACME_TOKEN"}, "Authorization", "Bearer planted-token-2"},
		"bearer by key":   {[]any{"auth_type", "bearer", "api_key_env", "TENANT_ACME_KEY"}, "Authorization", "Bearer planted-key-1"},
		"bearer guessed":  {[]any{"token_env", "TENANT_ACME_TOKEN"}, "Authorization", "Bearer planted-token-2"},
		"basic":           {[]any{"auth_type", "basic", "username_env", "TENANT_ACME_USER", "password_env", "TENANT_ACME_PASS"}, "Authorization", basic},
		"none":            {[]any{"auth_type", "none", "api_key_env", "TENANT_ACME_KEY"}, "X-Api-Key", ""},
	} {
		resp, err := b.Call(t.Context(), caller(), apiSource(base, test.config...), HTTPRequest{
			Headers: map[string]string{"X-Mine": "1"},
		})
		require.NoError(t, err, name)
		require.Equal(t, test.want, (<-header).Get(test.header), name)
		require.NotContains(t, toJSON(t, resp), "planted", name)
		if test.want != "" {
			require.Contains(t, toJSON(t, resp.Data), secret.Mask, name)
		}
	}
	require.NotContains(t, b.logs.String(), "planted")
	require.NotEmpty(t, b.logs.String())
}

func TestAuthMistakesAreNamed(t *testing.T) {
	b := newBench(t, map[string]string{"TENANT_ACME_BAD": "a\nb", "TENANT_OTHER_KEY": "planted", "DATABASE_URL": "planted"})
	base := startHTTPBin(t)
	for field, test := range map[string]struct {
		config []any
		class  Class
		text   string
	}{
		"wrong type":     {[]any{"auth_type", "digest"}, ClassInvalid, "digest"},
		"missing field":  {[]any{"auth_type", "api_key"}, ClassInvalid, "api_key_env"},
		"not set":        {[]any{"api_key_env", "TENANT_ACME_NONE"}, ClassSecret, "TENANT_ACME_NONE is not set"},
		"other tenant":   {[]any{"api_key_env", "TENANT_OTHER_KEY"}, ClassSecret, "another tenant"},
		"platform":       {[]any{"token_env", "DATABASE_URL"}, ClassSecret, "belongs to the platform"},
		"line break":     {[]any{"api_key_env", "TENANT_ACME_BAD"}, ClassInvalid, "line break"},
		"bad header":     {[]any{"api_key_env", "TENANT_ACME_BAD", "api_key_header", "Host"}, ClassInvalid, "Host"},
		"no password":    {[]any{"auth_type", "basic", "username_env", "TENANT_ACME_BAD"}, ClassInvalid, "password_env"},
		"no token url":   {[]any{"auth_type", "oauth2"}, ClassInvalid, "token_url"},
		"bad base":       {[]any{"base_url", "http://user:pass@127.0.0.1/"}, ClassInvalid, "credentials"},
		"templated base": {[]any{"base_url", "http://{host}/"}, ClassInvalid, "base_url"},
	} {
		_, err := b.Call(t.Context(), caller(), apiSource(base, test.config...), HTTPRequest{Endpoint: "/get"})
		require.Error(t, err, field)
		requireClass(t, test.class, err)
		require.ErrorContains(t, err, test.text, field)
		require.NotContains(t, err.Error(), "planted")
	}
}

// tokenServer is an OAuth2 server with an API behind it, and counts.
type tokenServer struct {
	issued  atomic.Int64
	calls   atomic.Int64
	expires string
	reject  atomic.Bool // the API refuses the latest token once
	form    chan url.Values
}

func (s *tokenServer) serve(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/token" {
		s.calls.Add(1)
		want := fmt.Sprintf("Bearer planted-access-%d", s.issued.Load())
		if r.Header.Get("Authorization") != want || s.reject.CompareAndSwap(true, false) {
			writeJSON(w, 401, `{}`)
			return
		}
		writeJSON(w, 200, `{"ok":true}`)
		return
	}
	_ = r.ParseForm()
	id, password, basic := r.BasicAuth()
	if !basic {
		id, password = r.PostForm.Get("client_id"), r.PostForm.Get("client_secret")
	} else {
		id, _ = url.QueryUnescape(id)
		password, _ = url.QueryUnescape(password)
	}
	if id != "my id" || password != "planted/secret" {
		writeJSON(w, 400, `{"error":"invalid_client","error_description":"no planted/secret here"}`)
		return
	}
	if s.form != nil {
		s.form <- r.PostForm
	}
	writeJSON(w, 200, fmt.Sprintf(`{"access_token":"planted-access-%d","token_type":"bearer","expires_in":%s}`, s.issued.Add(1), s.expires))
}

func oauthEnv() map[string]string {
	return map[string]string{"TENANT_ACME_ID": "my id", "TENANT_ACME_SECRET": "planted/secret", "TENANT_ACME_WRONG": "planted-wrong"}
}

func oauthConfig(base string, more ...any) []any {
	return append([]any{
		"auth_type", "oauth2", "token_url", base + "/token", "client_id_env", "TENANT_ACME_ID", "client_secret_env", "TENANT_ACME_SECRET",
	}, more...)
}

func TestOAuthTokensAreCachedAndShared(t *testing.T) {
	server := &tokenServer{expires: "3600"}
	base := startServer(t, server.serve)
	b := newBench(t, oauthEnv())
	src := apiSource(base, oauthConfig(base)...)
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			_, err := b.Call(t.Context(), caller(), src, HTTPRequest{})
			require.NoError(t, err)
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, server.issued.Load())
	require.EqualValues(t, 20, server.calls.Load())

	// The server ends the token early: one new token, one more call, and the caller never knows.
	server.reject.Store(true)
	_, err := b.Call(t.Context(), caller(), src, HTTPRequest{Method: "POST", Body: map[string]any{"a": "b"}})
	require.NoError(t, err)
	require.EqualValues(t, 2, server.issued.Load())
	require.EqualValues(t, 22, server.calls.Load())
	require.NotContains(t, b.logs.String(), "planted")

	other := caller()
	other.Tenant = "acme2"
	_, err = b.Call(t.Context(), other, src, HTTPRequest{})
	requireClass(t, ClassSecret, err)
}

func TestOAuthScopesAudienceAndStyle(t *testing.T) {
	server := &tokenServer{expires: "3600", form: make(chan url.Values, 1)}
	base := startServer(t, server.serve)
	b := newBench(t, oauthEnv())
	_, err := b.Call(t.Context(), caller(), apiSource(base, oauthConfig(base, "scopes", []any{"read", "write"}, "audience", "api://x", "auth_style", "body")...), HTTPRequest{})
	require.NoError(t, err)
	form := <-server.form
	require.Equal(t, "client_credentials", form.Get("grant_type"))
	require.Equal(t, "read write", form.Get("scope"))
	require.Equal(t, "api://x", form.Get("audience"))
	require.Equal(t, "my id", form.Get("client_id"))
}

func TestOAuthRefusal(t *testing.T) {
	server := &tokenServer{expires: "3600"}
	base := startServer(t, server.serve)
	b := newBench(t, oauthEnv())
	_, err := b.Call(t.Context(), caller(), apiSource(base, oauthConfig(base, "client_secret_env", "TENANT_ACME_WRONG")...), HTTPRequest{})
	e := classified(t, ClassAuth, err)
	require.Equal(t, "invalid_client", e.Code)
	require.Contains(t, e.Excerpt, "invalid_client")
	require.NotContains(t, err.Error(), "planted-wrong")
	require.Zero(t, server.calls.Load())
}

func TestTokenLife(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"3600": 54 * time.Minute, "60": 50 * time.Second, "10": 5 * time.Second, "": time.Minute, "-1": time.Minute, "x": time.Minute,
	} {
		require.Equal(t, want, tokenLife(json.Number(text)), text)
	}
}

func TestTokensExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newTokenCache()
		now := time.Now()
		c.put("k", accessToken{value: "v", renewAt: now.Add(time.Minute)}, now)
		_, ok := c.get("k", time.Now())
		require.True(t, ok)
		time.Sleep(time.Minute) //nolint:forbidigo // in a bubble
		_, ok = c.get("k", time.Now())
		require.False(t, ok)
		c.drop("k", "another")
		require.Len(t, c.tokens, 1)
		c.drop("k", "v")
		require.Empty(t, c.tokens)
		for i := range maxTokens + 10 {
			c.put(strconv.Itoa(i), accessToken{value: "v", renewAt: now}, now)
		}
		require.LessOrEqual(t, len(c.tokens), maxTokens)
	})
}
