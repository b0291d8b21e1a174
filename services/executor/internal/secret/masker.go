package secret

import (
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
	"sync"
)

// Mask stands where a secret was.
const Mask = "***MASKED***"

// minLength is the shortest value that is masked: replacing a value of two or three characters
// would tear every other text apart, and it would not be a secret.
const minLength = 4

// maxForms bounds a masker. Values come from the environment and from token endpoints; the oldest
// tokens have long expired when this many newer ones came.
const maxForms = 8192

// Masker replaces secret values, in every form in which they travel, by [Mask]. It is safe for
// concurrent use.
type Masker struct {
	mu       sync.RWMutex
	known    map[string]bool
	forms    []string          // in order of arrival
	replacer *strings.Replacer // nil after a change
}

// NewMasker returns a masker that knows nothing yet.
func NewMasker() *Masker { return &Masker{known: map[string]bool{}} }

// Maskers is a masker for each tenant. What is masked in a text tells that it is a secret, and a token
// endpoint chooses what its tokens are: neither is for the texts of another tenant.
type Maskers struct {
	mu       sync.Mutex
	byTenant map[string]*Masker
}

// NewMaskers returns maskers that know nothing yet.
func NewMaskers() *Maskers { return &Maskers{byTenant: map[string]*Masker{}} }

// Of returns the masker of a tenant.
func (m *Maskers) Of(tenant string) *Masker {
	m.mu.Lock()
	defer m.mu.Unlock()
	of := m.byTenant[tenant]
	if of == nil {
		of = NewMasker()
		m.byTenant[tenant] = of
	}
	return of
}

// Add makes the values, and the encoded forms of each, unreadable from now on.
func (m *Masker) Add(values ...string) {
	m.mu.RLock()
	news := false
	for _, v := range values {
		news = news || len(v) >= minLength && !m.known[v]
	}
	m.mu.RUnlock()
	if !news {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, v := range values {
		for _, form := range Forms(v) {
			if !m.known[form] {
				m.known[form] = true
				m.forms = append(m.forms, form)
			}
		}
	}
	if over := len(m.forms) - maxForms; over > 0 {
		for _, form := range m.forms[:over] {
			delete(m.known, form)
		}
		m.forms = slices.Clone(m.forms[over:])
	}
	m.replacer = nil // made when it is next wanted
}

// Mask returns text without any secret value added so far.
func (m *Masker) Mask(text string) string {
	m.mu.RLock()
	r, empty := m.replacer, len(m.forms) == 0
	m.mu.RUnlock()
	switch {
	case empty:
		return text
	case r == nil:
		m.mu.Lock()
		if m.replacer == nil {
			m.replacer = newReplacer(m.forms)
		}
		r = m.replacer
		m.mu.Unlock()
	}
	return r.Replace(text)
}

func newReplacer(forms []string) *strings.Replacer {
	longest := slices.Clone(forms)
	// At one position the first match wins: the longest must come first, or its tail would stay.
	slices.SortStableFunc(longest, func(a, b string) int { return len(b) - len(a) })
	pairs := make([]string, 0, 2*len(longest))
	for _, form := range longest {
		pairs = append(pairs, form, Mask)
	}
	return strings.NewReplacer(pairs...)
}

// Forms lists the spellings in which a value may turn up: as it is, in base64, escaped for a URL
// and escaped for JSON.
func Forms(value string) []string {
	if len(value) < minLength {
		return nil
	}
	forms := []string{
		value,
		base64.StdEncoding.EncodeToString([]byte(value)),
		base64.RawStdEncoding.EncodeToString([]byte(value)),
		base64.URLEncoding.EncodeToString([]byte(value)),
		base64.RawURLEncoding.EncodeToString([]byte(value)),
		url.QueryEscape(value),
		url.PathEscape(value),
	}
	for _, html := range []bool{true, false} { // encoders differ in whether they escape < > &
		var quoted strings.Builder
		encoder := json.NewEncoder(&quoted)
		encoder.SetEscapeHTML(html)
		if encoder.Encode(value) == nil {
			text := strings.TrimSuffix(quoted.String(), "\n")
			text = text[1 : len(text)-1]
			forms = append(forms, text, strings.ReplaceAll(text, "/", `\/`)) // PHP escapes slashes too
		}
	}
	slices.Sort(forms)
	return slices.Compact(forms)
}

// Seen collects the values one call resolved, so that what the peer echoes can be masked without
// searching for every secret of the process. It belongs to one goroutine.
type Seen struct{ forms []string }

// Add notes values with all their forms.
func (s *Seen) Add(values ...string) {
	for _, v := range values {
		s.forms = append(s.forms, Forms(v)...)
	}
}

// Mask returns text without the call's secrets; text without any is returned as it is.
func (s *Seen) Mask(text string) string {
	for _, form := range s.forms {
		if strings.Contains(text, form) {
			return newReplacer(s.forms).Replace(text)
		}
	}
	return text
}

// Any tells whether the call used a secret.
func (s *Seen) Any() bool { return len(s.forms) > 0 }

// Stream masks a text that comes in pieces, for emit. The Seen may still grow when the stream
// begins, as long as it knows a secret before the text that repeats it comes.
func (s *Seen) Stream(emit func(string)) *Stream { return &Stream{seen: s, emit: emit} }

// Stream holds back the end of what it was given while that could be the start of a secret.
type Stream struct {
	seen *Seen
	emit func(string)
	held string
}

// Write takes the next piece.
func (s *Stream) Write(piece string) {
	text := s.seen.Mask(s.held + piece)
	keep := 0
	for _, form := range s.seen.forms {
		for n := min(len(form)-1, len(text)); n > keep; n-- {
			if strings.HasSuffix(text, form[:n]) {
				keep = n
			}
		}
	}
	s.held = text[len(text)-keep:]
	if text = text[:len(text)-keep]; text != "" {
		s.emit(text)
	}
}

// Flush lets go of what was held back: the text has ended, and no secret with it.
func (s *Stream) Flush() {
	if s.held != "" {
		s.emit(s.held)
		s.held = ""
	}
}
