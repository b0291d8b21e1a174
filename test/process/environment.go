package process

import "os"

// Environment is what a process gets of ours, no setting of this machine and no key of this user, and then more.
func Environment(more ...string) []string {
	var env []string
	for _, name := range []string{"PATH", "HOME", "USER", "TMPDIR", "LANG", "GOCOVERDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return append(env, more...)
}
