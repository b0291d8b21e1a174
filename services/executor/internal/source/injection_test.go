package source

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// hostile is two hundred inputs that would do harm if any of them became a part of a statement.
func hostile() []string {
	payloads := []string{
		"DROP TABLE secrets", "DELETE FROM secrets", "UPDATE secrets SET value = 'x'", "INSERT INTO secrets VALUES ('x')",
		"SELECT value FROM secrets", "TRUNCATE secrets", "COPY secrets TO PROGRAM 'id'", "CREATE TABLE pwned (x int)",
		"ALTER TABLE secrets RENAME TO gone", "SELECT pg_read_file('/etc/passwd')",
	}
	frames := []string{
		"'; %s; --", "\"; %s; --", "1; %s", "'); %s; --", "')); %s; --", "x' UNION %s --", "x' OR 1=1; %s --", "$$; %s; --",
		"$1; %s", "\\'; %s; --", "';%s;/*", "*/; %s; /*", "\n; %s\n", "'||(%s)||'", "E'\\''; %s; --", "1) UNION (%s", "%%'; %s; --",
	}
	var out []string
	for _, frame := range frames {
		for _, payload := range payloads {
			out = append(out, fmt.Sprintf(frame, payload))
		}
	}
	return append(out,
		"' OR '1'='1", "' OR 1=1 --", "\" OR \"\"=\"", "1 OR 1=1", "admin'--", "' OR 'x'='x' #", "'", "''", "'''", "\\", "\\'", "\"", "`",
		"$1", "$2", "?", ":name", "{q}", "{{q}}", "{value}", "%", "%%", "_", "%s", "\u02bc; DROP TABLE secrets; --",
		"\uff07; DROP TABLE secrets; --", "NULL", "null", "-1", "9999999999999999999999", "1e309", "true", "; COMMIT; DROP TABLE secrets",
		"'; ROLLBACK; DROP TABLE secrets; --", "' AND pg_sleep(0) IS NULL --", strings.Repeat("'", 1000), strings.Repeat("A'--", 5000),
	)
}

func TestHostileInputsChangeNothingAndLeakNothing(t *testing.T) {
	b, conn, src := dbBench(t)
	execute(t, conn, `create table secrets (value text)`)
	execute(t, conn, `insert into secrets values ('planted-row')`)
	execute(t, conn, `create table people (id int, name text, tags text[], doc jsonb)`)
	execute(t, conn, `insert into people values (1, 'Ann', '{x}', '{"a": 1}'), (2, 'Bob', '{y}', '{}')`)
	fingerprint := func() string {
		var sum string
		require.NoError(t, conn.QueryRow(t.Context(), `select (select string_agg(relname, ',' order by relname) from pg_class where relnamespace = 'public'::regnamespace)
			|| (select string_agg(value, ',') from secrets) || (select string_agg(p::text, ',' order by id) from people p)`).Scan(&sum))
		return sum
	}
	before := fingerprint()
	inputs := hostile()
	require.GreaterOrEqual(t, len(inputs), 200)

	templates := []QueryRequest{
		{Template: "select id, name from people where name = {q}"},
		{Template: "select id, name from people where name = '{q}'"},
		{Template: "select id, name from people where name like 'no such %{q}% name'"},
		{Template: "select id, name from people where {q} = any(tags)"},
		{Template: "select id, name from people where doc = jsonb_build_object('k', {q}::text)"},
		{Query: "select id, name from people where name = :q", Params: map[string]any{"q": "{q}"}},
		{Query: "select id, name from people where name = $1", Params: []any{"{q}"}},
		{Query: "select id, name from people where name = {q}", Params: map[string]any{"q": "{q}"}},
		{Template: "select id, name from people where tags = {list}"},
	}
	for i, input := range inputs {
		for _, req := range templates {
			req.Values = values("q", input, "list", []any{input}, "value", "planted-state")
			rows, err := b.Query(t.Context(), caller(), src, req)
			require.NoError(t, err, "input %d %.60q in %s%s", i, input, req.Template, req.Query)
			require.Empty(t, rows, "input %d %.60q in %s%s", i, input, req.Template, req.Query)
		}
		// The value comes back as it was: it was a value all the way.
		rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Template: "select {q}::text as a, '{q}' as b, '<{q}>' as c", Values: values("q", input)})
		require.NoError(t, err)
		require.Equal(t, []map[string]any{{"a": input, "b": input, "c": "<" + input + ">"}}, rows)
		// Where a number is wanted, text is an error of the server's and no more.
		rows, err = b.Query(t.Context(), caller(), src, QueryRequest{Template: "select id from people where id = {q}", Values: values("q", input)})
		if err == nil {
			require.Empty(t, rows)
		} else {
			requireClass(t, ClassInvalid, err)
			require.NotContains(t, err.Error(), "planted-row")
		}
	}
	require.Equal(t, before, fingerprint())
	rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Template: "select id from people where name = {q}", Values: values("q", "Ann")})
	require.NoError(t, err)
	require.Len(t, rows, 1, "and an honest value is found")
}
