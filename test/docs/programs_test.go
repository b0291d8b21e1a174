package docs_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/agentflow/agentflow/test/process"
)

// checkAgentflow has the binary itself read the flags and their values: help is given when they are right, and before anything
// is done.
func checkAgentflow(t *testing.T, c command) {
	t.Helper()
	out, err := tool(t, c, "./cmd/agentflow", append(c.words[1:], "--help")...)
	require.NoError(t, err, "%s\n%s", c, out)
	require.NotContains(t, out, "Available Commands:", "%s is no command, or a group of them", c)
}

func checkCredentials(t *testing.T, c command, args []string) {
	t.Helper()
	out, _ := tool(t, c, "./deploy/credentials", append(args, "-h")...)
	require.Contains(t, out, "help requested", c)
}

// checkService starts a service as it is documented: with no configuration it refuses, unless it was asked about itself.
func checkService(t *testing.T, c command) {
	t.Helper()
	name := c.program()
	out, _ := tool(t, c, "./services/"+name+"/cmd/"+name, c.words[1:]...)
	require.NotContains(t, out, "unknown argument", c)
}

// built are the programs that were asked for. One test alone asks.
var built = map[string]string{}

// tool runs a main package of this repository with an environment that has nothing of ours.
func tool(t *testing.T, c command, main string, args ...string) (string, error) {
	t.Helper()
	if built[main] == "" {
		dir, err := process.Build(main)
		require.NoError(t, err, c)
		built[main] = filepath.Join(dir, filepath.Base(main))
	}
	cmd := exec.CommandContext(t.Context(), built[main], args...)
	cmd.Dir, cmd.Env = t.TempDir(), []string{"PATH=" + os.Getenv("PATH")}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// checkMake asks make, which says what it would do.
func checkMake(t *testing.T, c command) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "make", append([]string{"-n", "-C", root}, c.words[1:]...)...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s\n%s", c, out)
}

var function = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w*)\(`)

// checkGo looks for the packages, and in them for the tests and benchmarks that are named.
func checkGo(t *testing.T, c command) {
	t.Helper()
	switch c.words[1] {
	case "tool":
		require.NoError(t, exec.CommandContext(t.Context(), "go", "tool", "-n", c.words[2]).Run(), c)
	case "run":
		require.Equal(t, "./deploy/credentials", c.words[2], "%s: nothing says how to check it", c)
		checkCredentials(t, c, c.words[3:])
	case "test":
		var functions []string
		packages := 0
		for _, word := range c.words[2:] {
			if !strings.HasPrefix(word, "./") {
				continue
			}
			packages++
			folder, all := strings.CutSuffix(word, "/...")
			require.DirExists(t, filepath.Join(root, folder), c)
			require.NoError(t, filepath.WalkDir(filepath.Join(root, folder), func(path string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					if err == nil && !all && path != filepath.Join(root, folder) {
						return fs.SkipDir
					}
					return err
				}
				if match, err := filepath.Match("*_test.go", d.Name()); !match {
					return err
				}
				text, err := os.ReadFile(path)
				for _, m := range function.FindAllStringSubmatch(string(text), -1) {
					functions = append(functions, m[1])
				}
				return err
			}))
		}
		require.True(t, packages > 0 || slices.Contains(c.words, "work"), "%s: no packages", c)
		for flag, kind := range map[string]string{"-run": "Test", "-bench": "Benchmark"} {
			i := slices.Index(c.words, flag)
			if i < 0 || c.words[i+1] == "^$" {
				continue
			}
			for name := range strings.SplitSeq(c.words[i+1], "|") {
				wanted := regexp.MustCompile(name)
				require.True(t, slices.ContainsFunc(functions, func(f string) bool {
					return strings.HasPrefix(f, kind) && wanted.MatchString(f)
				}), "%s: there is no %s", c, name)
			}
		}
	default:
		require.Fail(t, "nothing says how to check it", c)
	}
}

// checkDocker looks for the services, profiles and build arguments.
func checkDocker(t *testing.T, c command) {
	t.Helper()
	dockerfile, err := os.ReadFile(filepath.Join(root, "Dockerfile"))
	require.NoError(t, err)
	raw, err := os.ReadFile(filepath.Join(root, "docker-compose.yml"))
	require.NoError(t, err)
	var compose struct {
		Services map[string]struct {
			Profiles []string `yaml:"profiles"`
		} `yaml:"services"`
	}
	require.NoError(t, yaml.Unmarshal(raw, &compose))

	for i, word := range c.words {
		switch word {
		case "--build-arg":
			name, _, _ := strings.Cut(c.words[i+1], "=")
			require.Regexp(t, `(?m)^ARG `+name+`\b`, string(dockerfile), c)
		case "--profile":
			var profiles []string
			for _, s := range compose.Services {
				profiles = append(profiles, s.Profiles...)
			}
			require.Contains(t, profiles, c.words[i+1], c)
		case "run":
			after := slices.DeleteFunc(slices.Clone(c.words[i+1:]), func(w string) bool { return w == "--rm" })
			require.Contains(t, compose.Services, after[0], c)
			require.Equal(t, "credentials", after[0], "%s: nothing says how to check its arguments", c)
			checkCredentials(t, c, after[1:])
		}
	}
}

// checkKubectl looks for the folders that are applied; deploy/k8s renders them and reads every object.
func checkKubectl(t *testing.T, c command) {
	t.Helper()
	require.Equal(t, "apply", c.words[1], "%s: nothing says how to check it", c)
	require.Len(t, c.words, 4, c)
	switch option, path := c.words[2], c.words[3]; {
	case option == "-k":
		require.FileExists(t, filepath.Join(root, path, "kustomization.yaml"), c)
	case path != "-":
		require.FileExists(t, filepath.Join(root, path), c)
		fallthrough
	default:
		require.Equal(t, "-f", option, c)
	}
}

// checkProgram looks for a file that may be executed.
func checkProgram(t *testing.T, c command, path string) {
	t.Helper()
	info, err := os.Stat(filepath.Join(root, path))
	require.NoError(t, err, c)
	require.NotZero(t, info.Mode()&0o111, "%s: is not executable", c)
}

// checkCurl looks for the path in the API, or on the admin port.
func checkCurl(t *testing.T, c command) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "services", "gateway", "internal", "api", "assets", "openapi.json"))
	require.NoError(t, err)
	var document struct {
		Paths map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal(raw, &document))
	found := slices.ContainsFunc(c.words, func(word string) bool {
		_, path, ok := strings.Cut(strings.TrimPrefix(word, "http://"), "/")
		path = "/" + path
		if ok && strings.HasPrefix(word, "ADMIN_ADDR/") {
			return path == "/health/ready" || path == "/health/live" || strings.HasPrefix(path, "/debug/pprof/")
		}
		for pattern := range document.Paths {
			pattern = regexp.MustCompile(`\\\{\w+\\\}`).ReplaceAllString(regexp.QuoteMeta(pattern), `[^/]+`)
			if ok && regexp.MustCompile("^"+pattern+"$").MatchString(path) {
				return true
			}
		}
		return false
	})
	require.True(t, found, "%s: no such path", c)
}

// variables of the environment that any of the code names.
var variables = sync.OnceValues(func() (map[string]bool, error) {
	name := regexp.MustCompile(`\b[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+\b`)
	found := map[string]bool{}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" || filepath.Base(filepath.Dir(path)) == "docs" {
			return err
		}
		text, err := os.ReadFile(path)
		for _, n := range name.FindAllString(string(text), -1) {
			found[n] = true
		}
		return err
	})
	return found, err
})
