package credential

import (
	"regexp"
	"strings"
)

// normal makes the spellings of a name one: API-Key, apiKey and api_key.
func normal(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		}
		return -1
	}, name)
}

// alwaysSecret are names that hold nothing but a secret, whatever its type.
var alwaysSecret = set(
	"apikey", "xapikey", "key", "secret", "password", "passwd", "pwd", "pass", "passphrase", "passcode", "pin", "token", "bearer", "jwt", "pat",
	"authorization", "proxyauthorization", "cookie", "setcookie", "credential", "credentials", "creds", "auth", "authkey", "authtoken", "xauthtoken",
	"accesstoken", "accesskey", "secretkey", "privatekey", "sshkey", "signingkey", "encryptionkey", "masterkey", "sessionkey", "licensekey",
	"subscriptionkey", "ocpapimsubscriptionkey", "xgoogapikey", "xfunctionskey", "xamzsecuritytoken", "accountkey", "sharedkey", "sastoken", "sas",
	"connectionstring", "connstr", "connstring", "dsn", "databaseurl", "dburl", "serviceaccountkey", "clientsecret", "apisecret", "apitoken",
)

// secretEndings are endings of names that hold a secret when their value is text.
var secretEndings = []string{
	"apikey", "secret", "password", "passwd", "passphrase", "token", "privatekey", "secretkey", "accesskey", "accesskeyid", "signingkey",
	"encryptionkey", "subscriptionkey", "authkey", "connectionstring", "credentials", "credential", "dsn", "databaseurl",
}

// harmless are names with such an ending that hold no secret.
var harmless = set(
	"pagetoken", "nextpagetoken", "nexttoken", "continuationtoken", "synctoken", "cursortoken",
	"stoptoken", "eostoken", "bostoken", "padtoken", "unktoken", "sptoken", "pertoken", "priceperinputtoken", "priceperoutputtoken", "pricepertoken",
)

// describes are fields that stand beside a secret without being one: {"auth": {"type": "bearer"}}.
var describes = set("type", "authtype", "scheme", "kind", "in", "header", "name", "method", "granttype", "username", "user", "host", "port",
	"database", "scope", "scopes", "audience", "issuer", "region", "url", "tokenurl", "clientid")

func set(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// environment tells whether a name promises the name of an environment variable.
func environment(name string) bool {
	n := strings.ToLower(name)
	return strings.HasSuffix(n, "_env") || strings.HasSuffix(n, "-env") || strings.HasSuffix(name, "Env")
}

// secretName tells whether a name is that of a secret.
func secretName(name string) bool {
	if environment(name) {
		return false
	}
	n := normal(name)
	if harmless[n] {
		return false
	}
	if alwaysSecret[n] {
		return true
	}
	for _, ending := range secretEndings {
		if strings.HasSuffix(n, ending) {
			return true
		}
	}
	return false
}

var variable = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,254}$`)

func variableName(s string) bool { return variable.MatchString(s) }

var (
	// reference is ${NAME}, $NAME, {{name}} or {name}: something that is filled in later.
	reference = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_.]*\}|\$[A-Z_][A-Z0-9_]*|\{\{\s*[A-Za-z_][A-Za-z0-9_.\[\]]*\s*\}\}|\{[A-Za-z_][A-Za-z0-9_.\[\]]*\}`)
	scheme    = regexp.MustCompile(`(?i)^(bearer|basic|token|api_?key|key|oauth2?|none)?\s*$`)
)

// placeholder tells whether a text is nothing but a reference, perhaps behind the name of a scheme.
func placeholder(s string) bool {
	return reference.MatchString(s) && scheme.MatchString(reference.ReplaceAllString(s, ""))
}
