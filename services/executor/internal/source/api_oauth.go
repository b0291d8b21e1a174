package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
)

// tokenCache keeps access tokens of OAuth2 client credentials per tenant and client.
type tokenCache struct {
	flight singleflight.Group
	mu     sync.Mutex
	tokens map[string]accessToken
}

type accessToken struct {
	value   string
	renewAt time.Time
}

// maxTokens bounds the cache; beyond it expired tokens are dropped first, then any.
const maxTokens = 4096

func newTokenCache() *tokenCache { return &tokenCache{tokens: map[string]accessToken{}} }

func (t *tokenCache) get(key string, now time.Time) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	token, ok := t.tokens[key]
	return token.value, ok && now.Before(token.renewAt)
}

func (t *tokenCache) put(key string, token accessToken, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.tokens) >= maxTokens {
		for k, old := range t.tokens {
			if !now.Before(old.renewAt) || len(t.tokens) >= maxTokens {
				delete(t.tokens, k)
			}
		}
	}
	t.tokens[key] = token
}

// drop forgets a token, unless another call has renewed it already.
func (t *tokenCache) drop(key, value string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.tokens[key].value == value {
		delete(t.tokens, key)
	}
}

// credentials of the client, resolved for one call.
type oauthClient struct {
	endpoint *url.URL
	id       string
	secret   string
	key      string // of the cache
}

func (c *call) oauthClient() (oauthClient, error) {
	endpoint, err := absoluteURL("token_url", c.config.text("token_url"))
	if err != nil {
		return oauthClient{}, c.invalid("%s", err.Error())
	}
	id, err := c.named(endpoint, "client_id_env")
	if err != nil {
		return oauthClient{}, err
	}
	secret, err := c.named(endpoint, "client_secret_env")
	if err != nil {
		return oauthClient{}, err
	}
	sum := sha256.Sum256([]byte(strings.Join([]string{
		c.caller.Tenant, endpoint.String(), id, secret, strings.Join(c.config.list("scopes"), " "), c.config.text("audience"),
	}, "\x00")))
	return oauthClient{endpoint: endpoint, id: id, secret: secret, key: hex.EncodeToString(sum[:])}, nil
}

// accessToken answers a token that is good for a while, asking the endpoint when there is none.
// Calls that need the same token at the same time ask once.
func (c *call) accessToken(ctx context.Context) (string, error) {
	client, err := c.oauthClient()
	if err != nil {
		return "", err
	}
	token, ok := c.tokens.get(client.key, time.Now())
	if !ok {
		if token, err = c.shareToken(ctx, client); err != nil {
			return "", err
		}
	}
	c.derived(token)
	return token, nil
}

func (c *call) shareToken(ctx context.Context, client oauthClient) (string, error) {
	// The request belongs to everyone who waits for it, so one caller's leaving must not end it.
	done := c.tokens.flight.DoChan(client.key, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), defaultTimeout)
		defer cancel()
		return c.requestToken(ctx, client)
	})
	select {
	case <-ctx.Done():
		return "", ctx.Err()
	case got := <-done:
		token, _ := got.Val.(string)
		return token, got.Err
	}
}

func (c *call) requestToken(ctx context.Context, client oauthClient) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}}
	if scopes := c.config.list("scopes"); len(scopes) > 0 {
		form.Set("scope", strings.Join(scopes, " "))
	}
	if audience := c.config.text("audience"); audience != "" {
		form.Set("audience", audience)
	}
	inBody := c.config.text("auth_style") == "body"
	if inBody {
		form.Set("client_id", client.id)
		form.Set("client_secret", client.secret)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, client.endpoint.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	if !inBody {
		id, secret := url.QueryEscape(client.id), url.QueryEscape(client.secret) // RFC 6749, 2.3.1
		c.masker.Add(id+":"+secret, secret)
		req.SetBasicAuth(id, secret)
	}
	resp, err := c.apiHTTP.Do(req)
	if err != nil {
		return "", err
	}
	raw, err := readBody(resp)
	if err != nil {
		return "", err
	}
	return c.readToken(client, resp, raw)
}

func (c *call) readToken(client oauthClient, resp *http.Response, raw string) (string, error) {
	var body struct {
		AccessToken string      `json:"access_token"`
		ExpiresIn   json.Number `json:"expires_in"`
		Error       string      `json:"error"`
	}
	decodeErr := json.Unmarshal([]byte(raw), &body)
	c.masker.Add(body.AccessToken)
	if resp.StatusCode >= 400 {
		e := statusError(resp.StatusCode, resp.Header, body.Error, "the token endpoint refused the client credentials", raw)
		if e.Class == Class4xx {
			e.Class = ClassAuth
		}
		return "", e
	}
	if decodeErr != nil || body.AccessToken == "" {
		return "", &Error{Class: ClassAuth, Status: resp.StatusCode, Message: "the token endpoint answered without an access token"}
	}
	now := time.Now()
	c.tokens.put(client.key, accessToken{value: body.AccessToken, renewAt: now.Add(tokenLife(body.ExpiresIn))}, now)
	return body.AccessToken, nil
}

// tokenLife is how long a token is used: a tenth of its life, and at least ten seconds, are left
// for the call on its way. A token of unknown life is good for a minute.
func tokenLife(expires json.Number) time.Duration {
	seconds, err := expires.Float64()
	if err != nil || seconds <= 0 {
		return time.Minute
	}
	life := time.Duration(min(seconds, 24*60*60) * float64(time.Second))
	return life - max(life/10, min(10*time.Second, life/2))
}

// renew makes the same request with a new token.
func (c *call) renew(ctx context.Context, req *http.Request) (*http.Request, error) {
	client, err := c.oauthClient()
	if err != nil {
		return nil, err
	}
	c.tokens.drop(client.key, strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
	again := req.Clone(ctx)
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return again, c.authorize(ctx, again, authOAuth2)
}
