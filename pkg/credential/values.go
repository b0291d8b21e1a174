package credential

import (
	"net/url"
	"regexp"
	"strings"
)

// Kinds of secrets that decide what to write instead.
const (
	urlPassword     = "a password inside a URL"
	keywordPassword = "a connection string with a password"
)

// shape is what a kind of secret looks like. The text must hold hint, which is cheap to find.
type shape struct {
	kind    string
	hint    string
	pattern *regexp.Regexp
}

// Each pattern begins at the edge of a word, so that a key is found in the middle of a sentence.
var shapes = []shape{
	{"an Anthropic key", "sk-ant-", regexp.MustCompile(`\bsk-ant-[A-Za-z0-9_-]{8,}`)},
	{"an API key", "sk-", regexp.MustCompile(`\bsk-[A-Za-z0-9_-]{16,}`)},
	{"a Stripe key", "k_", regexp.MustCompile(`\b[spr]k_(?:live|test)_[A-Za-z0-9]{10,}`)},
	{"a webhook secret", "whsec_", regexp.MustCompile(`\bwhsec_[A-Za-z0-9+/=]{16,}`)},
	{"a Groq key", "gsk_", regexp.MustCompile(`\bgsk_[A-Za-z0-9]{16,}`)},
	{"a Google key", "AIza", regexp.MustCompile(`\bAIza[A-Za-z0-9_-]{30,}`)},
	{"a Google token", "ya29.", regexp.MustCompile(`\bya29\.[A-Za-z0-9_-]{16,}`)},
	{"a Google client secret", "GOCSPX-", regexp.MustCompile(`\bGOCSPX-[A-Za-z0-9_-]{16,}`)},
	{"an AWS key", "A", regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`)},
	{"a GitHub token", "gh", regexp.MustCompile(`\bgh[pousr]_[A-Za-z0-9]{20,}`)},
	{"a GitHub token", "github_pat_", regexp.MustCompile(`\bgithub_pat_[A-Za-z0-9_]{20,}`)},
	{"a GitLab token", "glpat-", regexp.MustCompile(`\bglpat-[A-Za-z0-9_-]{16,}`)},
	{"a Slack token", "xox", regexp.MustCompile(`\bxox[abeoprs]-[A-Za-z0-9-]{10,}`)},
	{"a Slack webhook", "hooks.slack.com", regexp.MustCompile(`hooks\.slack\.com/services/T[A-Za-z0-9]+/B[A-Za-z0-9]+/[A-Za-z0-9]+`)},
	{"a Hugging Face token", "hf_", regexp.MustCompile(`\bhf_[A-Za-z0-9]{20,}`)},
	{"a Replicate token", "r8_", regexp.MustCompile(`\br8_[A-Za-z0-9]{20,}`)},
	{"an xAI key", "xai-", regexp.MustCompile(`\bxai-[A-Za-z0-9]{20,}`)},
	{"a Perplexity key", "pplx-", regexp.MustCompile(`\bpplx-[A-Za-z0-9]{20,}`)},
	{"an NVIDIA key", "nvapi-", regexp.MustCompile(`\bnvapi-[A-Za-z0-9_-]{20,}`)},
	{"a SendGrid key", "SG.", regexp.MustCompile(`\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}`)},
	{"an npm token", "npm_", regexp.MustCompile(`\bnpm_[A-Za-z0-9]{30,}`)},
	{"a DigitalOcean token", "dop_v1_", regexp.MustCompile(`\bdop_v1_[a-f0-9]{32,}`)},
	{"a Shopify token", "shp", regexp.MustCompile(`\bshp(?:at|ca|pa|ss)_[a-fA-F0-9]{24,}`)},
	{"a Telegram token", ":AA", regexp.MustCompile(`\b[0-9]{8,10}:AA[A-Za-z0-9_-]{30,}`)},
	{"an AgentFlow key", "af_", regexp.MustCompile(`\baf_[0-9a-f]{32,}`)},
	{"a JSON web token", "eyJ", regexp.MustCompile(`\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*`)},
	{"a private key", "-----BEGIN", regexp.MustCompile(`-----BEGIN [A-Z0-9 ]*PRIVATE KEY`)},
	{"an Azure storage key", "ccount", regexp.MustCompile(`(?i)\baccountkey\s*=\s*[A-Za-z0-9+/]{20,}`)},
	{"an Azure shared access signature", "sig=", regexp.MustCompile(`[?&]sig=[A-Za-z0-9%+/]{20,}`)},
}

// prose are shapes that also occur in plain sentences.
var prose = []shape{
	{"an authorization header", "", regexp.MustCompile(`(?i)\b(?:bearer|basic)\s+(?:[A-Za-z+/._~-]{7,}[0-9]|[A-Za-z+/._~-]*[0-9][A-Za-z0-9+/._~-]{7,})`)},
	{"an authorization header", ":", regexp.MustCompile(`(?i)^\s*(?:proxy-)?(?:authorization|x-api-key|api-key|x-auth-token|cookie)\s*:\s*\S`)},
	{keywordPassword, "=", regexp.MustCompile(`(?i)(?:^|[\s;?&])(?:password|passwd|pwd)\s*=\s*[^\s;&$<{][^\s;&]*`)},
}

// secretParameter are names of query parameters that hold a secret.
var secretParameter = set(
	"apikey", "key", "token", "accesstoken", "authtoken", "secret", "password", "passwd", "pwd", "clientsecret", "sig", "signature", "auth", "code",
	"subscriptionkey", "appid", "appkey",
)

// valueKind says what kind of secret a text looks like, "" for none.
func valueKind(s string) string {
	if len(s) < 6 {
		return ""
	}
	if kind := keyKind(s); kind != "" {
		return kind
	}
	return match(prose, s)
}

// keyKind is valueKind without what prose may hold.
func keyKind(s string) string {
	if kind := match(shapes, s); kind != "" {
		return kind
	}
	return urlKind(s)
}

func match(list []shape, s string) string {
	for _, sh := range list {
		if strings.Contains(s, sh.hint) && sh.pattern.MatchString(s) {
			return sh.kind
		}
	}
	return ""
}

var urlPattern = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"'<>]+`)

// urlKind looks into the URLs of a text: for user:password@host, and for keys among the parameters.
func urlKind(s string) string {
	if !strings.Contains(s, "://") {
		return ""
	}
	for _, raw := range urlPattern.FindAllString(s, -1) {
		_, rest, _ := strings.Cut(raw, "://")
		authority, _, _ := strings.Cut(rest, "/")
		authority, _, _ = strings.Cut(authority, "?")
		// The password may hold an @ that should have been encoded: the last one counts.
		if at := strings.LastIndexByte(authority, '@'); at >= 0 {
			if _, password, ok := strings.Cut(authority[:at], ":"); ok && password != "" && !placeholder(password) {
				return urlPassword
			}
		} else if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			// A password with a slash looks like a path.
			user, password, ok := strings.Cut(rest[:at], ":")
			if ok && !strings.ContainsAny(user, "/?#") && strings.ContainsAny(password, "/?#") && !strings.HasPrefix(strings.TrimLeft(password, "0123456789"), "/") {
				return urlPassword
			}
		}
		_, parameters, _ := strings.Cut(rest, "?")
		parameters, _, _ = strings.Cut(parameters, "#")
		for _, pair := range strings.FieldsFunc(parameters, func(r rune) bool { return r == '&' || r == ';' }) {
			name, value, _ := strings.Cut(pair, "=")
			if decoded, err := url.QueryUnescape(name); err == nil {
				name = decoded
			}
			if value != "" && secretParameter[normal(name)] && !placeholder(value) {
				return "a key among the parameters of a URL"
			}
		}
	}
	return ""
}
