package source

import "strings"

// dialect is what the lexer must know about a database's SQL.
type dialect struct {
	name          string
	numbered      bool // $1 instead of ?
	backslash     bool // a backslash escapes inside a plain string
	doubleStrings bool // "..." is a string, not an identifier
	hashComments  bool
	spacedDashes  bool // -- begins a comment only before a space: 5--1 is 6
	dollarQuotes  bool
	nested        bool // /* */ comments nest
}

// tokenKind is the part a stretch of SQL plays.
type tokenKind int

const (
	tokenCode       tokenKind = iota // keywords, names, operators, numbers
	tokenString                      // '...': text holds what is between the quotes, escapes and all
	tokenIdentifier                  // "..." or `...`
	tokenRaw                         // $tag$...$tag$, E'...' and the like: nothing is filled in here
	tokenComment
	tokenExecutable // /*! ... */, which MySQL runs
)

// token is a stretch of a statement. The texts of all tokens make up the statement.
type token struct {
	kind  tokenKind
	text  string
	inner string // of a string: between the quotes
}

// lex splits a statement. It need not agree with the server on every detail: values are bound,
// never spliced, so that a disagreement costs a syntax error and nothing else.
func lex(sql string, d dialect) []token {
	var out []token
	start := 0 // of the code before position i
	emit := func(kind tokenKind, from, to, skip int) {
		if start < from {
			out = append(out, token{kind: tokenCode, text: sql[start:from]})
		}
		t := token{kind: kind, text: sql[from:to]}
		if kind == tokenString {
			t.inner = strings.TrimSuffix(sql[from+skip:to], sql[from:from+skip])
		}
		out = append(out, t)
		start = to
	}
	for i := 0; i < len(sql); {
		end := i + 1
		switch c := sql[i]; {
		case c == '\'':
			end = quoted(sql, i, d.backslash)
			emit(tokenString, i, end, 1)
		case c == '"':
			end = quoted(sql, i, d.doubleStrings && d.backslash)
			if d.doubleStrings {
				emit(tokenString, i, end, 1)
			} else {
				emit(tokenIdentifier, i, end, 1)
			}
		case c == '`':
			end = quoted(sql, i, false)
			emit(tokenIdentifier, i, end, 1)
		case prefixed(sql, i, d):
			quote := i + strings.IndexByte(sql[i:], '\'')
			end = quoted(sql, quote, c == 'e' || c == 'E' || d.backslash)
			emit(tokenRaw, i, end, 0)
		case strings.HasPrefix(sql[i:], "--") && (!d.spacedDashes || i+2 == len(sql) || sql[i+2] <= ' '), d.hashComments && c == '#':
			if end = strings.IndexByte(sql[i:], '\n'); end < 0 {
				end = len(sql)
			} else {
				end += i
			}
			emit(tokenComment, i, end, 0)
		case strings.HasPrefix(sql[i:], "/*!"), strings.HasPrefix(sql[i:], "/*M!"):
			end = blockComment(sql, i, d.nested)
			emit(tokenExecutable, i, end, 0)
		case strings.HasPrefix(sql[i:], "/*"):
			end = blockComment(sql, i, d.nested)
			emit(tokenComment, i, end, 0)
		case c == '$' && d.dollarQuotes && (i == 0 || !wordByte(sql[i-1])):
			if tag := dollarTag(sql[i:]); tag != "" {
				end = len(sql)
				if closing := strings.Index(sql[i+len(tag):], tag); closing >= 0 {
					end = i + closing + 2*len(tag)
				}
				emit(tokenRaw, i, end, 0)
			}
		}
		i = end
	}
	if start < len(sql) {
		out = append(out, token{kind: tokenCode, text: sql[start:]})
	}
	return out
}

// quoted answers where the text that opens with the quote at i ends: a doubled quote goes on.
func quoted(sql string, i int, backslash bool) int {
	quote := sql[i]
	for j := i + 1; j < len(sql); j++ {
		switch {
		case backslash && sql[j] == '\\':
			j++
		case sql[j] == quote && j+1 < len(sql) && sql[j+1] == quote:
			j++
		case sql[j] == quote:
			return j + 1
		}
	}
	return len(sql)
}

// prefixed tells whether a string with a prefix begins at i: E'..', B'..', X'..', N'..', U&'..'.
func prefixed(sql string, i int, d dialect) bool {
	if i > 0 && wordByte(sql[i-1]) {
		return false
	}
	rest := sql[i:]
	switch {
	case len(rest) > 2 && (rest[0] == 'U' || rest[0] == 'u') && rest[1] == '&' && rest[2] == '\'':
		return true
	case len(rest) > 1 && rest[1] == '\'':
		return strings.IndexByte("bBxXnN", rest[0]) >= 0 || d.dollarQuotes && (rest[0] == 'e' || rest[0] == 'E')
	}
	return false
}

func blockComment(sql string, i int, nested bool) int {
	depth := 1
	for j := i + 2; j+1 < len(sql); j++ {
		switch sql[j : j+2] {
		case "*/":
			if depth--; depth == 0 {
				return j + 2
			}
			j++
		case "/*":
			if nested {
				depth++
				j++
			}
		}
	}
	return len(sql)
}

// dollarTag answers $$ or $name$ at the start of text, "" when there is none.
func dollarTag(text string) string {
	for j := 1; j < len(text); j++ {
		switch {
		case text[j] == '$':
			return text[:j+1]
		case !wordByte(text[j]) || j == 1 && text[j] >= '0' && text[j] <= '9':
			return ""
		}
	}
	return ""
}

func wordByte(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}
