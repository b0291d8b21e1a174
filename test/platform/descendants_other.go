//go:build !linux

package platform

import (
	"context"
	"os/exec"
	"slices"
	"strconv"
	"strings"
)

// Descendants are the processes that a process has started, and those that they have.
func Descendants(pid int) ([]int, error) {
	all, err := list()
	if err != nil {
		return nil, err
	}
	var found []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for child, p := range all {
			if p.parent == queue[0] {
				found, queue = append(found, child), append(queue, child)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// Running tells which of the processes are still there. A zombie is not.
func Running(pids []int) []int {
	all, err := list()
	if err != nil {
		return pids
	}
	var alive []int
	for _, pid := range pids {
		if p, ok := all[pid]; ok && !strings.HasPrefix(p.state, "Z") {
			alive = append(alive, pid)
		}
	}
	return alive
}

type listed struct {
	parent int
	state  string
}

// list asks ps, since there is no /proc here.
func list() (map[int]listed, error) {
	out, err := exec.CommandContext(context.Background(), "ps", "-axo", "pid=,ppid=,stat=").Output()
	if err != nil {
		return nil, err
	}
	all := map[int]listed{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 3 {
			continue
		}
		pid, err := strconv.Atoi(fields[0])
		if err != nil {
			continue
		}
		parent, err := strconv.Atoi(fields[1])
		if err != nil {
			continue
		}
		all[pid] = listed{parent, fields[2]}
	}
	return all, nil
}
