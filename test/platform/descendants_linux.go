package platform

import (
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Descendants are the processes that a process has started, and those that they have.
func Descendants(pid int) ([]int, error) {
	parents, err := parents()
	if err != nil {
		return nil, err
	}
	var found []int
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		for child, parent := range parents {
			if parent == queue[0] {
				found, queue = append(found, child), append(queue, child)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

// Running tells which of the processes are still there. A zombie is not.
func Running(pids []int) []int {
	var alive []int
	for _, pid := range pids {
		if state, _, ok := stat(pid); ok && state != "Z" {
			alive = append(alive, pid)
		}
	}
	return alive
}

func parents() (map[int]int, error) {
	paths, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	parents := map[int]int{}
	for _, path := range paths {
		pid, err := strconv.Atoi(filepath.Base(path))
		if err != nil {
			continue
		}
		if _, parent, ok := stat(pid); ok {
			parents[pid] = parent
		}
	}
	return parents, nil
}

// stat reads the state and the parent of a process; ok is false when it has gone.
func stat(pid int) (state string, parent int, ok bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return "", 0, false
	}
	// The name stands in parentheses and may hold any character: the fields begin behind the last one.
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 2 {
		return "", 0, false
	}
	parent, err = strconv.Atoi(fields[1])
	return fields[0], parent, err == nil
}
