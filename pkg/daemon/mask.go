package daemon

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// shortestSecret is the length below which a value is not masked: "dev" or "1234" would blank out half the log.
const shortestSecret = 6

// masks knows values that must not leave the process, and takes them out of text.
type masks struct {
	mu       sync.Mutex // held by add
	values   map[string]bool
	replacer atomic.Pointer[strings.Replacer] // nil while there are no values
}

func newMasks() *masks { return &masks{values: map[string]bool{}} }

// add makes the values unprintable, also as they look inside JSON, a URL and base64. For a URL its password is
// masked too. Values that are known already cost nothing.
func (m *masks) add(values ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := len(m.values)
	for _, value := range values {
		m.put(value)
		if u, err := url.Parse(value); err == nil && u.User != nil {
			password, _ := u.User.Password()
			m.put(password)
		}
	}
	if len(m.values) == before {
		return
	}
	forms := make([]string, 0, len(m.values))
	for form := range m.values {
		forms = append(forms, form)
	}
	// Longest first: of two secrets that start alike the longer must go whole.
	slices.SortFunc(forms, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(forms))
	for _, form := range forms {
		pairs = append(pairs, form, masked)
	}
	m.replacer.Store(strings.NewReplacer(pairs...))
}

func (m *masks) put(value string) {
	if len(value) < shortestSecret || m.values[value] {
		return
	}
	m.values[value] = true
	m.values[url.QueryEscape(value)] = true
	m.values[url.PathEscape(value)] = true
	m.values[base64.StdEncoding.EncodeToString([]byte(value))] = true
	m.values[quoted(value, true)] = true
	m.values[quoted(value, false)] = true
}

// quoted is value as it looks between the quotes of a JSON string. The standard library escapes HTML there, zap
// does not.
func quoted(value string, html bool) string {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(html)
	if err := enc.Encode(value); err != nil {
		return value // a string cannot fail to encode
	}
	return strings.TrimSuffix(strings.TrimPrefix(b.String(), `"`), "\"\n")
}

// text is s without the values.
func (m *masks) text(s string) string {
	if r := m.replacer.Load(); r != nil {
		return r.Replace(s)
	}
	return s
}

// maskedWriter takes the values out of what is written. It sees whole log lines, so no value is cut in two.
type maskedWriter struct {
	w     io.Writer
	masks *masks
}

func (m *maskedWriter) Write(line []byte) (int, error) {
	r := m.masks.replacer.Load()
	if r == nil {
		return m.w.Write(line)
	}
	if _, err := io.WriteString(m.w, r.Replace(string(line))); err != nil {
		return 0, err
	}
	return len(line), nil // what the caller handed over, however long it became
}

// What secrets look like when nobody announced them. What a pattern has in groups stays, the rest is masked.
var secretPatterns = []*regexp.Regexp{
	// Authorization: Bearer x, Cookie: a=b; c=d. A header's value goes up to the end of the line or quote.
	regexp.MustCompile(`(?i)(\b(?:proxy-)?authorization["']?\s*[:=]\s*["'\[]*)[^\r\n"'\]]+`),
	regexp.MustCompile(`(?i)(\b(?:set-)?cookie["']?\s*[:=]\s*["'\[]*)[^\r\n"'\]]+`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic)\s+)[a-z0-9._~+/=-]{6,}`),
	// api_key=x, "client_secret": "x", GROQ_API_KEY=x, ?access_token=x
	regexp.MustCompile(`(?i)([\w-]*(?:api[_-]?key|secret|passwd|password|passphrase|token|credentials?|private[_-]?key|dsn|signature|nkey|seed)["']?\s*[:=]\s*["']?)[^\s"'&;,}\]]+`),
	// postgres://user:password@host
	regexp.MustCompile(`(://[^/\s:@]*:)[^/\s@]+(@)`),
	// Keys whose form gives them away: OpenAI and Anthropic, Groq, Google, GitHub, AWS, Slack, NATS seeds, JWTs, PEM.
	regexp.MustCompile(`()\bsk-[A-Za-z0-9_-]{16,}`),
	regexp.MustCompile(`()\bgsk_[A-Za-z0-9]{16,}`),
	regexp.MustCompile(`()\bAIza[A-Za-z0-9_-]{30,}`),
	regexp.MustCompile(`()\bgh[pousr]_[A-Za-z0-9]{20,}`),
	regexp.MustCompile(`()\bAKIA[A-Z0-9]{16}\b`),
	regexp.MustCompile(`()\bxox[a-z]-[A-Za-z0-9-]{10,}`),
	regexp.MustCompile(`()\bS[UAOCNX][A-Z2-7]{56}\b`),
	regexp.MustCompile(`()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+`),
	regexp.MustCompile(`(?s)()-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)`),
}

// scrubText takes out of s what looks like a secret.
func scrubText(s string) string {
	for _, pattern := range secretPatterns {
		s = pattern.ReplaceAllString(s, "${1}"+masked+"${2}")
	}
	return s
}

// secretName matches keys of maps whose values are secret whatever they look like.
var secretName = regexp.MustCompile(`(?i)(authorization|cookie|api[_-]?key|secret|passw|passphrase|token|credential|private[_-]?key|dsn|signature|session|nkey|seed|^body$|_body$|^payload$)`)

// countedTokens are the names that look like secrets and are counts of LLM tokens.
var countedTokens = regexp.MustCompile(`(?i)^(tokens?_(used|in|out|input|output|total)|(input|output|prompt|completion|total|max|reserved|used)_tokens|tokens|tokens_per_minute)$`)

func isSecretName(name string) bool {
	return secretName.MatchString(name) && !countedTokens.MatchString(name)
}
