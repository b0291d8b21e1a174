package source

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/local"
	"github.com/agentflow/agentflow/pkg/workflow"
)

const mysqlPassword = "planted-mysql-password"

// startMariaDB runs a real server. AGENTFLOW_TEST_MYSQL_URL names one to use instead; without
// either the test fails, it does not skip.
func startMariaDB(t *testing.T) string {
	t.Helper()
	if dsn := os.Getenv("AGENTFLOW_TEST_MYSQL_URL"); dsn != "" {
		return dsn
	}
	server, err := exec.LookPath("mariadbd")
	if err != nil {
		server, err = exec.LookPath("/usr/sbin/mariadbd")
	}
	require.NoError(t, err, "these tests need mariadb-server, or AGENTFLOW_TEST_MYSQL_URL")
	install, err := exec.LookPath("mariadb-install-db")
	require.NoError(t, err)
	me, err := user.Current()
	require.NoError(t, err)

	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	out, err := exec.CommandContext(t.Context(), install, "--no-defaults", "--user="+me.Username, "--datadir="+data,
		"--auth-root-authentication-method=normal", "--skip-test-db").CombinedOutput()
	require.NoError(t, err, "%s", out)
	setup := filepath.Join(dir, "setup.sql")
	statements := []string{ // the server reads one per line
		"CREATE DATABASE app",
		"CREATE USER app@'127.0.0.1' IDENTIFIED BY '" + mysqlPassword + "'",
		"GRANT ALL ON app.* TO app@'127.0.0.1'",
		"CREATE USER narrow@'127.0.0.1' IDENTIFIED BY '" + mysqlPassword + "'",
	}
	require.NoError(t, os.WriteFile(setup, []byte(strings.Join(statements, ";\n")+";\n"), 0o600))

	port, err := local.FreePort(t.Context())
	require.NoError(t, err)
	cmd := exec.Command(server, "--no-defaults", "--user="+me.Username, "--datadir="+data, "--init-file="+setup,
		"--bind-address=127.0.0.1", "--port="+strconv.Itoa(port), "--socket="+filepath.Join(dir, "s"), "--pid-file="+filepath.Join(dir, "pid"),
		"--skip-log-bin", "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M")
	log, err := os.Create(filepath.Join(dir, "log"))
	require.NoError(t, err)
	cmd.Stderr = log
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // it says how it ended, and it was told to
		require.NoError(t, log.Close())
	})
	dsn := fmt.Sprintf("mysql://app:%s@127.0.0.1:%d/app?tls=false", mysqlPassword, port)
	require.Eventually(t, func() bool {
		config, err := mysqlConfig(dsn)
		if err != nil {
			return false
		}
		db, err := sql.Open("mysql", config.FormatDSN())
		if err != nil {
			return false
		}
		defer func() { _ = db.Close() }()
		return db.PingContext(t.Context()) == nil
	}, time.Minute, 50*time.Millisecond, "the server did not come up")
	return dsn
}

// One server serves all of these: starting it costs seconds.
func TestMySQL(t *testing.T) {
	dsn := startMariaDB(t)
	config, err := mysqlConfig(dsn)
	require.NoError(t, err)
	db, err := sql.Open("mysql", config.FormatDSN())
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	prepare := func(t *testing.T, statements ...string) {
		t.Helper()
		for _, s := range statements {
			_, err := db.ExecContext(t.Context(), s)
			require.NoError(t, err, s)
		}
	}
	setup := func(t *testing.T) (*bench, workflow.Source) {
		t.Helper()
		return newBench(t, map[string]string{"TENANT_ACME_DB": dsn}), makeSource("db", "connection_string_env", "TENANT_ACME_DB")
	}

	t.Run("values", func(t *testing.T) {
		b, src := setup(t)
		prepare(t, `create table v (id int primary key, i8 tinyint, u64 bigint unsigned, d decimal(30,10), f float, g double, z int(5) zerofill,
			dt datetime(6), ts timestamp(3) null, da date, ti time(3), y year, c char(3), vc varchar(20), tx text, bi binary(2), vb varbinary(9), bl blob,
			en enum('a','b'), se set('x','y'), bt bit(10), js json, bo boolean, pt point)`,
			`insert into v values (1, -5, 18446744073709551615, 12345678901234567890.0123456789, 1.5, 0.1, 42, '2025-01-31 12:00:00.123456',
			'2025-01-31 12:00:00.5', '2025-01-31', '-26:03:04.500', 2025, 'abc', 'é"''\\', 'text', x'00ff', x'0102', x'ff', 'b', 'x,y', b'1000000001', '{"a": [1, 2.50]}', true, point(1,2))`,
			`insert into v (id) values (2)`)
		rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select * from v order by id"})
		require.NoError(t, err)
		require.Len(t, rows, 2)
		n := func(s string) json.Number { return json.Number(s) }
		point := rows[0]["pt"]
		delete(rows[0], "pt")
		require.IsType(t, "", point)
		js := rows[0]["js"]
		delete(rows[0], "js")
		if text, ok := js.(string); ok { // MariaDB's JSON is text, and says so
			js, err = decodeJSON(text)
			require.NoError(t, err)
		}
		require.Equal(t, map[string]any{"a": []any{n("1"), n("2.50")}}, js)
		require.Equal(t, map[string]any{
			"id": n("1"), "i8": n("-5"), "u64": n("18446744073709551615"), "d": n("12345678901234567890.0123456789"), "f": n("1.5"), "g": n("0.1"), "z": n("42"),
			"dt": "2025-01-31T12:00:00.123456Z", "ts": "2025-01-31T12:00:00.5Z", "da": "2025-01-31", "ti": "-26:03:04.500", "y": n("2025"),
			"c": "abc", "vc": `é"'\`, "tx": "text", "bi": "AP8=", "vb": "AQI=", "bl": "/w==", "en": "b", "se": "x,y", "bt": n("513"), "bo": n("1"),
		}, rows[0])
		_ = toJSON(t, rows)
		for name, value := range rows[1] {
			if name != "id" {
				require.Nil(t, value, name)
			}
		}
	})

	t.Run("parameters", func(t *testing.T) {
		b, src := setup(t)
		prepare(t, `create table p (id int primary key, name varchar(50), at datetime)`,
			`insert into p select seq, concat('name ', seq), '2025-01-01' + interval seq day from seq_1_to_300`)
		vals := values("id", json.Number("5"), "name", "name 7", "price", json.Number("5.0"), "none", nil, "day", "2025-01-04")
		for template, want := range map[string]string{
			"select id from p where id = {id}":                             "5",
			"select id from p where id = '{id}'":                           "5",
			"select id from p where id = {price}":                          "5",
			`select id from p where name = "{name}"`:                       "7",
			"select id from p where name like '%{name}' order by id":       "7",
			"select id from p where at < date '{day}' order by id":         "1 2",
			"select id from p where {none} is null and id < 3 order by id": "1 2",
			"select id from p order by id limit {id}":                      "1 2 3 4 5",
		} {
			rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Template: template, Values: vals})
			require.NoError(t, err, template)
			var got []string
			for _, row := range rows {
				got = append(got, string(row["id"].(json.Number)))
			}
			require.Equal(t, want, strings.Join(got, " "), template)
		}
		rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select * from p"})
		require.NoError(t, err)
		require.Len(t, rows, 100)
		rows, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select id from p where id in (?, ?) order by id", Params: []any{"{id}", json.Number("6")}, Values: vals})
		require.NoError(t, err)
		require.Len(t, rows, 2)
	})

	t.Run("stops at the limit", func(t *testing.T) {
		b, src := setup(t)
		// Either would take the server far longer than it is given, if it were to send them all.
		for _, query := range []string{"select seq from seq_1_to_1000000000", "select seq from seq_1_to_1000000000 limit 900000000"} {
			for range 3 {
				rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: query, Limit: 3, Timeout: patience})
				require.NoError(t, err)
				require.Equal(t, []map[string]any{{"seq": json.Number("1")}, {"seq": json.Number("2")}, {"seq": json.Number("3")}}, rows)
			}
		}
		_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select repeat('x', 100000) from seq_1_to_100", Limit: 100})
		requireClass(t, ClassTooLarge, err)
	})

	t.Run("hostile inputs", func(t *testing.T) {
		b, src := setup(t)
		prepare(t, `create table secrets (value varchar(50))`, `insert into secrets values ('planted-row')`,
			`create table people (id int, name text character set utf8mb4)`, `insert into people values (1, 'Ann')`)
		for i, input := range hostile() {
			for _, req := range []QueryRequest{
				{Template: "select id from people where name = {q}"},
				{Template: "select id from people where name = '{q}'"},
				{Template: `select id from people where name = "{q}"`},
				{Query: "select id from people where name = :q", Params: map[string]any{"q": "{q}"}},
				{Query: "select id from people where name = ?", Params: []any{"{q}"}},
			} {
				req.Values = values("q", input)
				rows, err := b.Query(t.Context(), caller(), src, req)
				require.NoError(t, err, "input %d %.60q in %s%s", i, input, req.Template, req.Query)
				require.Empty(t, rows, "input %d %.60q", i, input)
			}
			rows, err := b.Query(t.Context(), caller(), src, QueryRequest{Template: "select {q} as a", Values: values("q", input)})
			require.NoError(t, err)
			require.Equal(t, input, rows[0]["a"])
		}
		var left, tables int
		require.NoError(t, db.QueryRowContext(t.Context(), "select count(*) from secrets where value = 'planted-row'").Scan(&left))
		require.NoError(t, db.QueryRowContext(t.Context(), "select count(*) from information_schema.tables where table_name in ('secrets','people','pwned')").Scan(&tables))
		require.Equal(t, []int{1, 2}, []int{left, tables})
	})

	t.Run("errors", func(t *testing.T) {
		b, src := setup(t)
		prepare(t, `create table w (id int)`, `create sequence s`)
		_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select sleep(200)", Timeout: 200 * time.Millisecond})
		requireClass(t, ClassTimeout, err)
		for query, class := range map[string]Class{
			"select * from nowhere": ClassInvalid,
			"select 1 +":            ClassInvalid,
			"with x as (select 1) delete from w where id = 1": ClassInvalid,
			"select load_file('/etc/passwd') from nowhere":    ClassInvalid,
		} {
			_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: query})
			require.Error(t, err, query)
			requireClass(t, class, err)
		}
		b.env["TENANT_ACME_NARROW"] = strings.Replace(dsn, "app:", "narrow:", 1)
		_, err = b.Query(t.Context(), caller(), makeSource("db", "dsn_env", "TENANT_ACME_NARROW"), QueryRequest{Query: "select 1"})
		requireClass(t, ClassAuth, err)
		b.env["TENANT_ACME_WRONG"] = strings.Replace(dsn, mysqlPassword, "planted-wrong", 1)
		_, err = b.Query(t.Context(), caller(), makeSource("db", "dsn_env", "TENANT_ACME_WRONG"), QueryRequest{Query: "select 1"})
		requireClass(t, ClassAuth, err)
		require.NotContains(t, err.Error(), "planted")
		require.NotContains(t, b.logs.String(), "planted")
		for text, class := range map[string]Class{
			"mysql://u:p@127.0.0.1:1/x": ClassNetwork, "mysql://u:p@10.0.0.1/x": ClassEgress, "mysql://u:p@/x": ClassInvalid,
			"mysql://u:p@127.0.0.1/x?tls=maybe": ClassInvalid,
		} {
			b.env["TENANT_ACME_X"] = text
			src := makeSource("db", "dsn_env", "TENANT_ACME_X")
			_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
			require.Error(t, err, text)
			requireClass(t, class, err)
		}
		result := b.Test(t.Context(), caller(), src)
		require.True(t, result.Connected, result.Message)
	})

	t.Run("pool", func(t *testing.T) {
		b, src := setup(t)
		src.Config["pool_size"], src.Config["max_overflow"], src.Config["pool_timeout"] = json.Number("1"), json.Number("0"), json.Number("2")
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer func() { require.NoError(t, conn.Close()) }()
		_, err = conn.ExecContext(t.Context(), "do get_lock('held', 60)")
		require.NoError(t, err)
		var holder sync.WaitGroup
		holder.Go(func() {
			_, err := b.Query(t.Context(), caller(), src, QueryRequest{Query: "select get_lock('held', 60)"})
			require.NoError(t, err)
		})
		require.Eventually(t, func() bool {
			var waiting int
			err := conn.QueryRowContext(t.Context(), "select count(*) from information_schema.processlist where state = 'User lock'").Scan(&waiting)
			return err == nil && waiting == 1
		}, patience, 10*time.Millisecond)
		_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
		require.Equal(t, "pool_timeout", classified(t, ClassTimeout, err).Code)
		_, err = conn.ExecContext(t.Context(), "do release_lock('held')")
		require.NoError(t, err)
		holder.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		_, err = b.Query(ctx, caller(), src, QueryRequest{Query: "select sleep(200)"})
		requireClass(t, ClassTimeout, err)
		_, err = b.Query(t.Context(), caller(), src, QueryRequest{Query: "select 1"})
		require.NoError(t, err, "a query that was given up frees its connection")
	})
}

func TestMySQLConnectionStrings(t *testing.T) {
	config, err := mysqlConfig("mysql://us%40er:p%2Fw@db.example/app?allowAllFiles=true&multiStatements=true&allowCleartextPasswords=true&interpolateParams=true")
	require.NoError(t, err)
	require.Equal(t, "us@er", config.User)
	require.Equal(t, "p/w", config.Passwd)
	require.Equal(t, "db.example:3306", config.Addr)
	require.Equal(t, "app", config.DBName)
	require.False(t, config.AllowAllFiles)
	require.False(t, config.MultiStatements)
	require.False(t, config.AllowCleartextPasswords)
	require.False(t, config.InterpolateParams)
}
