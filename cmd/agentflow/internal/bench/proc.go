package bench

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// tick is the unit in which /proc counts CPU time; Linux has promised 100 a second to programs on every machine.
const tick = 10 * time.Millisecond

// process is a line of /proc/<pid>/stat.
type process struct {
	pid, parent int
	name        string
	cpu         time.Duration // user and system, its own
	reaped      time.Duration // that of children that have ended
}

func procFile(pid int, name string) string { return "/proc/" + strconv.Itoa(pid) + "/" + name }

// readProcess reads about one process. Elsewhere than on Linux there is nothing to read, which is an error.
func readProcess(pid int) (process, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return process{}, err
	}
	return parseStat(text)
}

// parseStat reads pid, name and times. The name stands in parentheses, and may hold some itself.
func parseStat(text []byte) (process, error) {
	open, end := bytes.IndexByte(text, '('), bytes.LastIndexByte(text, ')')
	if open < 0 || end < open {
		return process{}, fmt.Errorf("not a line of /proc/<pid>/stat: %q", text)
	}
	p := process{name: string(text[open+1 : end])}
	fields := strings.Fields(string(text[end+1:])) // the first is field 3 of proc(5)
	const parent, utime, stime, cutime, cstime = 1, 11, 12, 13, 14
	if len(fields) <= cstime {
		return process{}, fmt.Errorf("a short line in /proc/<pid>/stat: %q", text)
	}
	var errs error
	number := func(s string) int {
		n, err := strconv.Atoi(s)
		errs = errors.Join(errs, err)
		return n
	}
	p.pid = number(strings.TrimSpace(string(text[:open])))
	p.parent = number(fields[parent])
	p.cpu = time.Duration(number(fields[utime])+number(fields[stime])) * tick
	p.reaped = time.Duration(number(fields[cutime])+number(fields[cstime])) * tick
	return p, errs
}

// Names of processes in reports.
const (
	processPlatform = "agentflow"
	processClient   = "client"
)

// cost is the CPU time that each part of a platform has used so far, by its name.
type cost map[string]time.Duration

// family is the platform and the servers that it runs.
type family map[string][]process

// familyOf finds the processes of a platform: its own, and each server with all that stands below it, by the name of
// its program. A process that ends while we look is left out: whoever waits for it has its time.
func familyOf(pid int) (family, error) {
	self, err := readProcess(pid)
	if err != nil {
		return nil, fmt.Errorf("look at process %d: %w", pid, err)
	}
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	children := map[int][]process{}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		if p, err := parseStat(text); err == nil {
			children[p.parent] = append(children[p.parent], p)
		}
	}
	f := family{processPlatform: {self}}
	for _, server := range children[pid] {
		name := serverName(server.name)
		for queue := []process{server}; len(queue) > 0; queue = queue[1:] {
			f[name] = append(f[name], queue[0])
			queue = append(queue, children[queue[0].pid]...)
		}
	}
	return f, nil
}

func serverName(program string) string {
	switch program {
	case "redis-server", "valkey-server":
		return "redis"
	}
	return program
}

// cost sums up CPU time.
func (f family) cost() cost {
	c := cost{}
	for name, processes := range f {
		for i, p := range processes {
			c[name] += p.cpu
			if i == 0 && name != processPlatform { // what a server's workers had used when they ended
				c[name] += p.reaped
			}
		}
	}
	return c
}

// minus is what was used since before.
func (c cost) minus(before cost) cost {
	d := cost{}
	for name, used := range c {
		d[name] = used - before[name]
	}
	return d
}

// memory is the memory of each part, in bytes: the most that a single process has held since the last forgetPeak, and
// for several processes together what they hold now, shared pages counted once.
func (f family) memory() map[string]int64 {
	m := map[string]int64{}
	for name, processes := range f {
		if len(processes) == 1 {
			m[name] = statusLine(processes[0].pid, "status", "VmHWM:")
			continue
		}
		for _, p := range processes {
			m[name] += statusLine(p.pid, "smaps_rollup", "Pss:")
		}
	}
	return m
}

// forgetPeak has the kernel count the most memory anew. Where that is refused the peak is that since the start.
func forgetPeak(pid int) {
	_ = os.WriteFile(procFile(pid, "clear_refs"), []byte("5"), 0)
}

// resident is what a process holds now, in bytes.
func resident(pid int) int64 { return statusLine(pid, "status", "VmRSS:") }

// statusLine reads a line such as "VmRSS:  1024 kB"; 0 when there is none.
func statusLine(pid int, file, name string) int64 {
	text, err := os.ReadFile(procFile(pid, file))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name); ok {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return kb << 10
		}
	}
	return 0
}
