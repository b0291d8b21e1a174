package source

import (
	"context"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/url"
)

// Types of authentication.
const (
	authNone   = "none"
	authAPIKey = "api_key"
	authBearer = "bearer"
	authBasic  = "basic"
	authOAuth2 = "oauth2"
)

// authFields are the config keys each type cannot do without, with their aliases.
var authFields = map[string][][]string{
	authAPIKey: {{"api_key_env", "auth_env"}},
	authBearer: {{"token_env", "api_key_env", "auth_env"}},
	authBasic:  {{"username_env"}, {"password_env"}},
	authOAuth2: {{"token_url"}, {"client_id_env"}, {"client_secret_env"}},
}

// authType reads how a source authenticates; without auth_type the fields tell.
func authType(c config) (string, error) {
	switch kind := c.text("auth_type"); kind {
	case "":
	case authNone, authAPIKey, authBearer, authBasic, authOAuth2:
		return kind, nil
	case "oauth2_client_credentials", "client_credentials":
		return authOAuth2, nil
	default:
		return "", fmt.Errorf("auth_type %.30q is not one of none, api_key, bearer, basic, oauth2", kind)
	}
	switch {
	case c.text("token_url") != "":
		return authOAuth2, nil
	case c.text("token_env") != "":
		return authBearer, nil
	case c.text("username_env") != "":
		return authBasic, nil
	case c.text("api_key_env", "auth_env") != "":
		return authAPIKey, nil
	}
	return authNone, nil
}

// authorize adds the credentials of the source to a request.
func (c *call) authorize(ctx context.Context, req *http.Request, kind string) error {
	to := req.URL
	switch kind {
	case authAPIKey:
		key, err := c.named(to, "api_key_env", "auth_env")
		if err != nil {
			return err
		}
		name := c.config.text("api_key_header")
		if name == "" {
			name = "X-API-Key"
		}
		return c.credential(req, name, key)
	case authBearer:
		token, err := c.named(to, "token_env", "api_key_env", "auth_env")
		if err != nil {
			return err
		}
		return c.credential(req, "Authorization", "Bearer "+token)
	case authBasic:
		user, err := c.named(to, "username_env")
		if err != nil {
			return err
		}
		password, err := c.named(to, "password_env")
		if err != nil {
			return err
		}
		token := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
		c.derived(user+":"+password, token)
		return c.credential(req, "Authorization", "Basic "+token)
	case authOAuth2:
		token, err := c.accessToken(ctx)
		if err != nil {
			return err
		}
		return c.credential(req, "Authorization", "Bearer "+token)
	}
	return nil
}

// named resolves the variable in the first of the fields that is set.
func (c *call) named(to *url.URL, fields ...string) (string, error) {
	for _, field := range fields {
		if name := c.config.text(field); name != "" {
			return c.secret(field, name, to)
		}
	}
	return "", c.invalid("%s is missing: name the environment variable to use", fields[0])
}

func (c *call) credential(req *http.Request, name, value string) error {
	if !validHeaderName(name) || forbiddenHeaders[canonical(name)] {
		return c.invalid("api_key_header %.60q may not be set", name)
	}
	if !validHeaderValue(value) {
		return c.invalid("the credential for header %s has a line break or a control character", canonical(name))
	}
	req.Header.Set(name, value)
	return nil
}
