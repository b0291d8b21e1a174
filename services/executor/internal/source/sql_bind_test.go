package source

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var (
	pgDialect = (*postgresPool)(nil).dialect()
	myDialect = (*mysqlPool)(nil).dialect()
)

func TestBind(t *testing.T) {
	vals := values("id", json.Number("7"), "name", "O'Hara; --", "who", map[string]any{"age": json.Number("3")}, "tags", []any{"a", "b"}, "none", nil)
	for name, test := range map[string]struct {
		req  QueryRequest
		d    dialect
		text string
		args []any
	}{
		"as it stands":       {QueryRequest{Query: "select '{id}', :id, {id}"}, pgDialect, "select '{id}', :id, {id}", nil},
		"template":           {QueryRequest{Template: "select * from t where id = {id} and a > {who.age}"}, pgDialect, "select * from t where id = $1 and a > $2", []any{json.Number("7"), json.Number("3")}},
		"mysql":              {QueryRequest{Template: "select * from t where id = {id}"}, myDialect, "select * from t where id = ?", []any{json.Number("7")}},
		"quoted":             {QueryRequest{Template: "select '{name}'"}, pgDialect, "select $1", []any{"O'Hara; --"}},
		"quoted null":        {QueryRequest{Template: "select '{none}'"}, pgDialect, "select $1", []any{nil}},
		"like":               {QueryRequest{Template: "select 1 where x like '%{name}%' and y = 'it''s {id}'"}, pgDialect, "select 1 where x like $1 and y = $2", []any{"%O'Hara; --%", "it's 7"}},
		"mysql string":       {QueryRequest{Template: `select "{name}", 'a\'{{', "it""s {id}"`}, myDialect, `select ?, 'a\'{{', ?`, []any{"O'Hara; --", `it"s 7`}},
		"cast":               {QueryRequest{Template: "select {id}::int, '{id}'::text"}, pgDialect, "select $1::int, $2::text", []any{json.Number("7"), "7"}},
		"typed":              {QueryRequest{Template: "select now() - interval '{id} days', x.date '{id}', DATE  '{name}'"}, pgDialect, "select now() - CAST($1 AS interval), x.date $2, CAST($3 AS date)", []any{"7 days", "7", "O'Hara; --"}},
		"mysql typed":        {QueryRequest{Template: "select timestamp '{name}', interval '{id}' day"}, myDialect, "select CAST(? AS datetime), interval ? day", []any{"O'Hara; --", "7"}},
		"list":               {QueryRequest{Template: "select 1 where x = any({tags})"}, pgDialect, "select 1 where x = any($1)", []any{[]any{"a", "b"}}},
		"params object":      {QueryRequest{Query: "select :a, {b}, x::text, y[1:n], :c, '{literal}'", Params: map[string]any{"a": "{name}", "b": "x{id}"}}, pgDialect, "select $1, $2, x::text, y[1:n], :c, '{literal}'", []any{"O'Hara; --", "x7"}},
		"params keep types":  {QueryRequest{Query: "select :a, :b, :d", Params: map[string]any{"a": "{id}", "b": true, "d": "{tags}"}}, pgDialect, "select $1, $2, $3", []any{json.Number("7"), true, []any{"a", "b"}}},
		"params array":       {QueryRequest{Query: "select $2, $1", Params: []any{"{id}", "x"}}, pgDialect, "select $2, $1", []any{json.Number("7"), "x"}},
		"params and state":   {QueryRequest{Template: "select $1, {id}", Params: []any{"x"}}, pgDialect, "select $1, $2", []any{"x", json.Number("7")}},
		"mysql array":        {QueryRequest{Template: "select ?, {id}, '?', ?", Params: []any{"x", "y"}}, myDialect, "select ?, ?, '?', ?", []any{"x", json.Number("7"), "y"}},
		"params first":       {QueryRequest{Template: "select {id}", Params: map[string]any{"id": "mine"}}, pgDialect, "select $1", []any{"mine"}},
		"jsonb question":     {QueryRequest{Template: "select x ? 'k' where id = {id}"}, pgDialect, "select x ? 'k' where id = $1", []any{json.Number("7")}},
		"dollar quotes":      {QueryRequest{Template: "select $x$ ' ; {{ $x$, $$--$$, {id}"}, pgDialect, "select $x$ ' ; {{ $x$, $$--$$, $1", []any{json.Number("7")}},
		"comments":           {QueryRequest{Template: "select 1 -- {id}; '\n, /* {id} /* ' */ ; */ {id}"}, pgDialect, "select 1  \n,   $1", []any{json.Number("7")}},
		"mysql dashes":       {QueryRequest{Template: "select {id}--1, 2 -- {id}\n--\tx\n--"}, myDialect, "select ?--1, 2  \n \n ", []any{json.Number("7")}},
		"comment as space":   {QueryRequest{Query: "select/**/1"}, pgDialect, "select 1", nil},
		"escape string":      {QueryRequest{Template: `select E'\';', {id}`}, pgDialect, `select E'\';', $1`, []any{json.Number("7")}},
		"array literal":      {QueryRequest{Template: "select '{1,2}'::int[], '{red}'::text[], {id}"}, pgDialect, "select '{1,2}'::int[], '{red}'::text[], $1", []any{json.Number("7")}},
		"JSON literal":       {QueryRequest{Template: `select '{"a": 1}'::jsonb, {id}`}, pgDialect, `select '{"a": 1}'::jsonb, $1`, []any{json.Number("7")}},
		"escaped braces":     {QueryRequest{Template: `select '{{id}}', {id}`}, pgDialect, `select '{{id}}', $1`, []any{json.Number("7")}},
		"trailing semicolon": {QueryRequest{Query: "select 1 ; \n -- done"}, pgDialect, "select 1  ", nil},
		"semicolon in text":  {QueryRequest{Query: `select ';', ";"`}, pgDialect, `select ';', ";"`, nil},
		"parentheses":        {QueryRequest{Query: "(select 1) union (select 2)"}, pgDialect, "(select 1) union (select 2)", nil},
		"comment first":      {QueryRequest{Query: "/* hi */ WITH x AS (select 1) select * from x"}, pgDialect, "  WITH x AS (select 1) select * from x", nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			test.req.Values = vals
			c := b.newCall(caller(), makeSource("db"))
			got, err := c.bind(test.req, test.d)
			require.NoError(t, err)
			require.Equal(t, test.text, got.text)
			if test.args == nil {
				require.Empty(t, got.args)
			} else {
				require.Equal(t, test.args, got.args)
			}
		})
	}
}

func TestBindRefuses(t *testing.T) {
	vals := values("id", json.Number("7"), "name", "x")
	for name, test := range map[string]struct {
		req  QueryRequest
		d    dialect
		text string
	}{
		"nothing":             {QueryRequest{Query: " "}, pgDialect, "empty"},
		"comment alone":       {QueryRequest{Query: "-- x"}, pgDialect, "begin with"},
		"unknown name":        {QueryRequest{Template: "select {nobody}"}, pgDialect, "{nobody}"},
		"unknown param":       {QueryRequest{Query: "select {nobody}", Params: map[string]any{"a": "1"}}, pgDialect, "{nobody}"},
		"two statements":      {QueryRequest{Query: "select 1; select 2"}, pgDialect, "more than one"},
		"two, after comment":  {QueryRequest{Query: "select 1; /* x */ drop table t"}, pgDialect, "more than one"},
		"two, after string":   {QueryRequest{Query: "select 1; 'x'"}, pgDialect, "more than one"},
		"insert":              {QueryRequest{Query: "insert into t values (1)"}, pgDialect, "begin with"},
		"copy":                {QueryRequest{Query: "copy t to program 'x'"}, pgDialect, "begin with"},
		"commit":              {QueryRequest{Query: "commit"}, pgDialect, "begin with"},
		"set":                 {QueryRequest{Query: "set role x"}, pgDialect, "begin with"},
		"do":                  {QueryRequest{Query: "do $$ begin end $$"}, pgDialect, "begin with"},
		"identifier":          {QueryRequest{Template: `select * from "{name}"`}, pgDialect, "cannot name a table"},
		"backticks":           {QueryRequest{Template: "select * from `{name}`"}, myDialect, "cannot name a table"},
		"dollar quoted":       {QueryRequest{Template: "select $$ {name} $$"}, pgDialect, "author's own text"},
		"escape string":       {QueryRequest{Template: `select E'{name}'`}, pgDialect, "author's own text"},
		"mysql backslash":     {QueryRequest{Template: `select 'a\n{name}'`}, myDialect, "backslash"},
		"executable comment":  {QueryRequest{Query: "select 1 /*!50000 into outfile 'x' */"}, myDialect, "executable"},
		"outfile":             {QueryRequest{Query: "select 1 INTO  OUTFILE '/tmp/x'"}, myDialect, "write files"},
		"dumpfile":            {QueryRequest{Query: "select 1 into/**/dumpfile '/tmp/x'"}, myDialect, "write files"},
		"params text":         {QueryRequest{Query: "select 1", Params: "x"}, pgDialect, "object or an array"},
		"too few marks":       {QueryRequest{Query: "select ?", Params: []any{"a", "b"}}, myDialect, "2 values"},
		"too many marks":      {QueryRequest{Query: "select ?, ?", Params: []any{"a"}}, myDialect, "more question marks"},
		"unfinished string":   {QueryRequest{Query: "select 1; 'x"}, pgDialect, "more than one"},
		"semicolon semicolon": {QueryRequest{Query: "select 1;; select 2"}, pgDialect, "more than one"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nil)
			test.req.Values = vals
			_, err := b.newCall(caller(), makeSource("db")).bind(test.req, test.d)
			requireClass(t, ClassInvalid, err)
			require.ErrorContains(t, err, test.text)
		})
	}
}

// Whatever a statement looks like, its tokens are the statement, and no value ends up in the text.
func TestNoValueBecomesAPartOfAStatement(t *testing.T) {
	s, err := New(Config{})
	require.NoError(t, err)
	const planted = "planted'value;--"
	// Pieces, because random characters hardly ever make a placeholder inside an open quote.
	piece := rapid.SampledFrom([]string{
		"'", "''", `"`, `\"\"`, "`", `\`, "$$", "$x$", "$1", "?", "{v}", "{v.x[0]}", "{{", "}}", "{", "}", "{w}", ":v", "::v", ":", ";",
		"--", "\n", "/*", "*/", "/*!", "#", "E'", "U&'", "b'", "N'", "date '", "select ", " ", "a", "1", "(", ")", "é", "%", "into outfile", "e",
	})
	rapid.Check(t, func(t *rapid.T) {
		sql := "select " + strings.Join(rapid.SliceOfN(piece, 1, 25).Draw(t, "pieces"), "")
		for _, d := range []dialect{pgDialect, myDialect} {
			var whole strings.Builder
			for _, token := range lex(sql, d) {
				whole.WriteString(token.text)
			}
			if whole.String() != sql {
				t.Fatalf("the tokens of %q are %q", sql, whole.String())
			}
			c := s.newCall(caller(), makeSource("db"))
			for _, params := range []any{nil, map[string]any{"v": planted}, []any{planted}} {
				got, err := c.bind(QueryRequest{Template: sql, Values: values("v", planted), Params: params}, d)
				if err == nil && strings.Contains(got.text, planted) {
					t.Fatalf("%q became %q", sql, got.text)
				}
			}
		}
	})
}
