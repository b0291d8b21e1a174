package docs_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Commands that are not run are held against what they name. A program that is not in the table is an error, so that a new
// one gets a check or a reason here.
var checks = map[string]func(t *testing.T, c command){
	"agentflow":   checkAgentflow,
	"credentials": func(t *testing.T, c command) { t.Helper(); checkCredentials(t, c, c.words[1:]) },
	"curl":        checkCurl,
	"docker":      checkDocker,
	"go":          checkGo,
	"kubectl":     checkKubectl,
	"make":        checkMake,
	"script":      func(t *testing.T, c command) { t.Helper(); checkProgram(t, c, c.words[0]) },

	"gateway":  checkService,
	"executor": checkService,

	"nats": foreign, // what the command line of NATS calls its arguments is its own affair
}

func foreign(t *testing.T, _ command) { t.Helper() }

// program by its name: binaries are documented with and without the folder that they are built into.
func (c command) program() string {
	if strings.HasSuffix(c.words[0], ".sh") {
		return "script"
	}
	return strings.TrimPrefix(c.words[0], "bin/")
}

var (
	indented = regexp.MustCompile(`(?m)^\n((?: {4}\S.*\n)+)`)
	span     = regexp.MustCompile("`([^`\n]+)`")
	tableOf  = regexp.MustCompile("`([a-z ]+) …`")
)

// documented are the commands of a page that are not run: those in blocks that are not marked, in indented blocks, and in
// the text between backquotes. In a table whose head says `program …`, options that stand alone are that program's.
func documented(t *testing.T, page string) []command {
	t.Helper()
	var found []command
	raw, err := os.ReadFile(page)
	require.NoError(t, err)
	prose := string(raw)
	for _, b := range blocks(t, page) {
		if b.info == "sh" {
			found = append(found, commands(t, b.text, page)...)
		}
		prose = strings.Replace(prose, b.text, "", 1)
	}
	for _, m := range indented.FindAllStringSubmatch(prose, -1) {
		if !strings.Contains(m[1], "://[") { // forms of addresses
			found = append(found, commands(t, m[1], page)...)
		}
		prose = strings.Replace(prose, m[1], "", 1)
	}
	table := ""
	for line := range strings.Lines(prose) {
		if !strings.HasPrefix(line, "|") {
			table = ""
		} else if m := tableOf.FindStringSubmatch(line); m != nil {
			table = m[1] + " "
		}
		for _, m := range span.FindAllStringSubmatch(line, -1) {
			text := strings.ReplaceAll(m[1], `\|`, "|")
			if table != "" && strings.HasPrefix(text, "-") {
				text = table + text
			}
			program, rest, _ := strings.Cut(text, " ")
			if checks[strings.TrimPrefix(program, "bin/")] != nil && rest != "" && !strings.Contains(rest, "…") {
				found = append(found, commands(t, text, page)...)
			}
		}
	}
	return found
}

// Every command that is not run could be: program, subcommand, flags and their values, files, targets, services, benchmarks.
func TestCommandsExist(t *testing.T) {
	t.Parallel()
	known, err := variables()
	require.NoError(t, err)
	seen, done := map[string]int{}, map[string]bool{}
	for _, page := range pages(t) {
		for _, c := range documented(t, page) {
			check := checks[c.program()]
			require.NotNil(t, check, "%s: nothing says how to check it", c)
			for _, name := range c.env {
				require.Contains(t, known, name, c)
			}
			if line := strings.Join(c.words, " "); !done[line] {
				check(t, c)
				done[line] = true
			}
			seen[c.program()]++
		}
	}
	for program := range checks {
		require.NotZero(t, seen[program], "no page names %s: the check is not needed", program)
	}
	require.Greater(t, seen["agentflow"], 50)
	require.Greater(t, seen["go"], 10)
}
