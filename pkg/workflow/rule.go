package workflow

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// rule is the condition of one route of a rules router. The zero rule never holds.
type rule struct {
	call string
	text string // in lower case
	size int
}

const ruleForms = "contains('x'), starts_with('x'), ends_with('x'), equals('x'), length_gt(n) or length_lt(n)"

// parseRule reads one call, such as contains('refund').
func parseRule(s string) (rule, error) {
	name, rest, ok := strings.Cut(strings.TrimSpace(s), "(")
	if !ok || !strings.HasSuffix(rest, ")") {
		return rule{}, fmt.Errorf("the rule %s is not a call; write %s", quoted(s), ruleForms)
	}
	name = strings.TrimSpace(name)
	argument := strings.TrimSpace(strings.TrimSuffix(rest, ")"))
	switch name {
	case "contains", "starts_with", "ends_with", "equals":
		text, err := unquote(argument)
		if err != nil {
			return rule{}, fmt.Errorf("the rule %s is wrong: %w", quoted(s), err)
		}
		return rule{call: name, text: strings.ToLower(text)}, nil
	case "length_gt", "length_lt":
		n, err := strconv.Atoi(argument)
		if err != nil || n < 0 {
			return rule{}, fmt.Errorf("the rule %s is wrong: %s takes a whole number", quoted(s), name)
		}
		return rule{call: name, size: n}, nil
	}
	return rule{}, fmt.Errorf("the rule %s is unknown; write %s", quoted(s), ruleForms)
}

// unquote reads a text in single or double quotes; a backslash takes the next character as it is.
func unquote(s string) (string, error) {
	if len(s) < 2 || s[0] != '\'' && s[0] != '"' {
		return "", errors.New("the text must be in quotes")
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case s[0]:
			if i != len(s)-1 {
				return "", errors.New("there must be one text, and nothing after it; only single calls are possible")
			}
			return b.String(), nil
		case '\\':
			i++
			if i < len(s) {
				b.WriteByte(s[i])
			}
		default:
			b.WriteByte(s[i])
		}
	}
	return "", errors.New("the quote is not closed")
}

// holds decides for a text that is in lower case already.
func (r rule) holds(lower string) bool {
	switch r.call {
	case "contains":
		return strings.Contains(lower, r.text)
	case "starts_with":
		return strings.HasPrefix(lower, r.text)
	case "ends_with":
		return strings.HasSuffix(lower, r.text)
	case "equals":
		return lower == r.text
	case "length_gt":
		return utf8.RuneCountInString(lower) > r.size
	case "length_lt":
		return utf8.RuneCountInString(lower) < r.size
	}
	return false
}
