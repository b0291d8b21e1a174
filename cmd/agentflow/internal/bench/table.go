package bench

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// Table writes the report for people.
func (r *Report) Table(w io.Writer) error {
	var b bytes.Buffer
	where := "a platform of its own, durability " + r.Durability
	if r.URL != "" {
		where = r.URL
	}
	how := "in the request"
	if r.Stored {
		how = "stored"
	}
	fmt.Fprintf(&b, "agentflow %s, %s, %s, %d CPUs; %s; workflows %s\n", r.Version, r.Go, r.System, r.CPUs, where, how)
	if r.Filled > 0 {
		fmt.Fprintf(&b, "%s executions were there before\n", whole(r.Filled))
	}
	if s := r.Startup; s != nil {
		fmt.Fprintf(&b, "\nagentflow up: %s on an empty folder, %s again; holds %s\n", seconds(s.FreshSeconds), seconds(s.WarmSeconds), size(float64(s.ResidentBytes)))
	}
	all := slices.Concat(r.Runs, r.Bare)
	if len(all) > 0 {
		r.latencies(&b, all)
		costs(&b, all)
		insides(&b, r.Runs)
		errorsOf(&b, all)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// columns writes a table: the first column to the left, numbers to the right.
func columns(b *bytes.Buffer, rows [][]string) {
	var text bytes.Buffer
	t := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	width := 0
	for _, row := range rows {
		width = max(width, len(row[0]))
	}
	for _, row := range rows {
		_, _ = fmt.Fprintf(t, "%-*s\t%s\t\n", width, row[0], strings.Join(row[1:], "\t")) // into memory
	}
	_ = t.Flush()
	b.WriteByte('\n')
	for line := range strings.Lines(text.String()) {
		b.WriteString(strings.TrimRight(line, " \n") + "\n")
	}
}

func (r *Report) latencies(b *bytes.Buffer, all []Measurement) {
	head := []string{"workload", "clients", "requests", "per second", "p50 ms", "p90 ms", "p99 ms", "p99.9 ms", "max ms", "errors"}
	if len(r.Bare) > 0 {
		head = append(head, "of bare")
	}
	rows := [][]string{head}
	for _, m := range all {
		row := []string{m.Workload, strconv.Itoa(m.Clients), whole(m.Latency.Requests), number(m.PerSecond)}
		row = append(append(row, m.Latency.row()...), whole(m.Failed()))
		if len(r.Bare) > 0 {
			of := "-"
			if m.OfBare > 0 {
				of = fmt.Sprintf("%.2f", m.OfBare)
			}
			row = append(row, of)
		}
		rows = append(rows, row)
		for _, kind := range slices.Sorted(maps.Keys(m.Kinds)) {
			l := m.Kinds[kind]
			row := append([]string{"  " + kind, "", whole(l.Requests), ""}, l.row()...)
			row = append(row, "")
			if len(r.Bare) > 0 {
				row = append(row, "")
			}
			rows = append(rows, row)
		}
	}
	columns(b, rows)
}

func (l Latency) row() []string {
	if l.Requests == 0 {
		return []string{"-", "-", "-", "-", "-"}
	}
	return []string{number(l.P50), number(l.P90), number(l.P99), number(l.P999), number(l.Max)}
}

// costs are per request: CPU time of each process, and what was written.
func costs(b *bytes.Buffer, all []Measurement) {
	names := map[string]bool{}
	for _, m := range all {
		for name := range m.Cost.CPU {
			names[name] = true
		}
	}
	order := slices.SortedFunc(maps.Keys(names), func(x, y string) int {
		return cmp.Or(cmp.Compare(place(x), place(y)), cmp.Compare(x, y))
	})
	head := []string{"per request", "clients"}
	for _, name := range order {
		head = append(head, name+" µs")
	}
	rows := [][]string{append(head, "JetStream", "Postgres", "its WAL")}
	for _, m := range all {
		row := []string{m.Workload, strconv.Itoa(m.Clients)}
		for _, name := range order {
			cell := "-"
			if us, ok := m.Cost.CPU[name]; ok {
				cell = number(us)
			}
			row = append(row, cell)
		}
		if in := m.Cost.Inside; in != nil {
			row = append(row, size(in.JetStreamBytes), size(in.PostgresBytes), size(in.WALBytes))
		} else {
			row = append(row, "-", "-", "-")
		}
		rows = append(rows, row)
	}
	columns(b, rows)
}

// place puts the platform first and what only measures last.
func place(name string) int {
	switch name {
	case processPlatform:
		return 0
	case processClient:
		return 2
	case bareName:
		return 3
	}
	return 1
}

// insides are what a run did to the platform as a whole.
func insides(b *bytes.Buffer, runs []Measurement) {
	rows := [][]string{{"memory", "clients", "agentflow peak", "postgres", "redis", "goroutines", "tables behind", "caught up after"}}
	var idle []string
	for _, m := range runs {
		in := m.Cost.Inside
		if in == nil {
			continue
		}
		rows = append(rows, []string{
			m.Workload, strconv.Itoa(m.Clients),
			size(float64(in.Memory[processPlatform])), size(float64(in.Memory["postgres"])), size(float64(in.Memory["redis"])),
			fmt.Sprintf("%d -> %d", in.GoroutinesBefore, in.Goroutines), whole(in.Behind), seconds(in.DrainSeconds),
		})
		if i := in.Idle; i != nil {
			idle = append(idle, fmt.Sprintf("%s after %s of idling: holds %s, %d goroutines; %s in JetStream, %s in Postgres\n", label(m.Workload, m.Clients),
				seconds(i.Seconds), size(float64(i.ResidentBytes)), i.Goroutines, size(float64(i.JetStreamBytes)), size(float64(i.PostgresBytes))))
		}
	}
	if len(rows) > 1 {
		columns(b, rows)
	}
	if len(idle) > 0 {
		b.WriteString("\n" + strings.Join(idle, ""))
	}
}

func errorsOf(b *bytes.Buffer, all []Measurement) {
	first := true
	for _, m := range all {
		for _, fault := range slices.Sorted(maps.Keys(m.Errors)) {
			if first {
				b.WriteByte('\n')
				first = false
			}
			fmt.Fprintf(b, "%s: %s × %s\n", label(m.Workload, m.Clients), whole(m.Errors[fault]), fault)
		}
	}
}

// number shows three or four digits.
func number(v float64) string {
	switch {
	case v >= 1000:
		return whole(int64(v + 0.5))
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// whole groups digits by thousands.
func whole(n int64) string {
	s := strconv.FormatInt(n, 10)
	start := 0
	if n < 0 {
		start = 1
	}
	for i := len(s) - 3; i > start; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func size(bytes float64) string {
	const k = 1024
	switch {
	case bytes >= k*k:
		return number(bytes/k/k) + " MB"
	case bytes >= 10*k:
		return number(bytes/k) + " KB"
	}
	return whole(int64(bytes)) + " B"
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond).String()
}
