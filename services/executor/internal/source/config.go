package source

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// config reads a source's document. Numbers are json.Number when they come from a spec and
// anything else when they come from a test or a client's library, so reading is lenient.
type config map[string]any

// text answers the first of the keys that holds a non-empty string.
func (c config) text(keys ...string) string {
	for _, key := range keys {
		if s, ok := c[key].(string); ok && strings.TrimSpace(s) != "" {
			return strings.TrimSpace(s)
		}
	}
	return ""
}

// number answers the literal of a number, "" when the key holds none.
func (c config) number(key string) json.Number {
	switch v := c[key].(type) {
	case json.Number:
		return v
	case string:
		v = strings.TrimSpace(v)
		if _, err := strconv.ParseFloat(v, 64); err == nil {
			return json.Number(v)
		}
	case float64:
		return json.Number(strconv.FormatFloat(v, 'g', -1, 64))
	case int:
		return json.Number(strconv.Itoa(v))
	case int64:
		return json.Number(strconv.FormatInt(v, 10))
	}
	return ""
}

func (c config) float(key string) (float64, bool) {
	f, err := strconv.ParseFloat(string(c.number(key)), 64)
	return f, err == nil
}

// integer answers a whole number; 30.0 is one too.
func (c config) integer(key string) (int, bool) {
	f, ok := c.float(key)
	if !ok || f != float64(int(f)) {
		return 0, false
	}
	return int(f), true
}

// seconds answers a duration that is written in seconds, fallback when it is not there.
func (c config) seconds(key string, fallback time.Duration) time.Duration {
	f, ok := c.float(key)
	if !ok || f <= 0 || f > 24*60*60 {
		return fallback
	}
	return time.Duration(f * float64(time.Second))
}

// strings answers an object of strings, such as headers.
func (c config) strings(key string) map[string]string {
	m, _ := c[key].(map[string]any)
	out := make(map[string]string, len(m))
	for k, v := range m {
		switch v := v.(type) {
		case string:
			out[k] = v
		case json.Number:
			out[k] = v.String()
		case bool:
			out[k] = strconv.FormatBool(v)
		}
	}
	return out
}

// list answers an array of strings, or the words of one string.
func (c config) list(key string) []string {
	switch v := c[key].(type) {
	case string:
		return strings.Fields(v)
	case []any:
		var out []string
		for _, item := range v {
			if s, ok := item.(string); ok && s != "" {
				out = append(out, s)
			}
		}
		return out
	}
	return nil
}

// absoluteURL reads a base URL: http or https, a host, no user, no fragment.
func absoluteURL(field, raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s is not a URL", field)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%s must start with http:// or https://", field)
	case u.Hostname() == "":
		return nil, fmt.Errorf("%s has no host", field)
	case u.User != nil:
		return nil, fmt.Errorf("%s must not hold credentials: name environment variables instead", field)
	case strings.ContainsAny(u.Host, "{}"):
		return nil, fmt.Errorf("the host of %s must not be a template", field)
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}
