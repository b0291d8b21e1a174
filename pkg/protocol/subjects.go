package protocol

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// Streams and buckets.
const (
	StreamCommands  = "COMMANDS"
	StreamCatalog   = "CATALOG"
	BucketSpecs     = "specs"       // resolved specs by content hash
	BucketIdem      = "idempotency" // tenant and key -> request hash and execution
	BucketObjects   = "objects"     // values too large for a commit
	DefaultParts    = 8             // partitions of the execution log, fixed at creation
	DurableExecutor = "executors"   // the consumer group of every partition
)

// Subject roots. Everything the platform says stands under "agentflow.".
const (
	subjectCommand   = "agentflow.command."
	subjectCatalog   = "agentflow.catalog."
	subjectExecution = "agentflow.execution."
	subjectProgress  = "agentflow.progress."
	subjectSignal    = "agentflow.signal."
	subjectCall      = "agentflow.call."

	CommandSubjects = subjectCommand + ">"
	CatalogSubjects = subjectCatalog + ">"
)

// CommandSubject is where a command of this verb is sent for catalog to handle.
func CommandSubject(t TenantID, v Verb) string {
	return subjectCommand + string(t) + "." + string(v)
}

// CatalogSubject is the aggregate of one catalog document.
func CatalogSubject(t TenantID, kind CatalogKind, id string) string {
	return subjectCatalog + string(t) + "." + string(kind) + "." + Token(id)
}

// CatalogFilter matches every document of a kind; an empty tenant means all tenants.
func CatalogFilter(t TenantID, kind CatalogKind) string {
	if t == "" {
		t = "*"
	}
	return subjectCatalog + string(t) + "." + string(kind) + ".*"
}

// ProgressSubject carries live, unstored progress of one execution.
func ProgressSubject(t TenantID, id ExecutionID) string {
	return subjectProgress + string(t) + "." + string(id)
}

// SignalSubject nudges whoever runs the execution to read its log again.
func SignalSubject(id ExecutionID) string { return subjectSignal + string(id) }

// CallSubject is where a service answers a named call.
func CallSubject(name string) string { return subjectCall + name }

// PartitionStream names the stream of one partition.
func PartitionStream(p int) string { return "EXECUTIONS_" + strconv.Itoa(p) }

// PartitionSubjects matches everything in one partition.
func PartitionSubjects(p int) string { return subjectExecution + strconv.Itoa(p) + ".>" }

// JobFilter matches the commits of one partition that are jobs: the queue of work.
func JobFilter(p int) string { return subjectExecution + strconv.Itoa(p) + ".*.*." + leafRequested }

// The two leaves of an execution's aggregate.
const (
	leafRequested = "requested"
	leafLog       = "log"
)

// ExecutionKey addresses one execution's aggregate in the log.
type ExecutionKey struct {
	Partition int
	Tenant    TenantID
	ID        ExecutionID
}

// KeyOf places an execution in one of n partitions by the hash of its id.
func KeyOf(n int, t TenantID, id ExecutionID) ExecutionKey {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))                                                    // a hash never fails
	return ExecutionKey{Partition: int(h.Sum32() % uint32(n)), Tenant: t, ID: id} //nolint:gosec // a count of partitions is small
}

// ParseExecutionSubject reads the key back from any subject of the aggregate, and whether the
// subject is that of the requested commit.
func ParseExecutionSubject(subject string) (key ExecutionKey, requested bool, err error) {
	rest, ok := strings.CutPrefix(subject, subjectExecution)
	parts := strings.Split(rest, ".")
	if !ok || len(parts) != 4 || parts[3] != leafRequested && parts[3] != leafLog {
		return ExecutionKey{}, false, fmt.Errorf("subject %q is not of an execution", subject)
	}
	p, err := strconv.Atoi(parts[0])
	if err != nil || p < 0 || strconv.Itoa(p) != parts[0] || parts[1] == "" || parts[2] == "" {
		return ExecutionKey{}, false, fmt.Errorf("subject %q is not of an execution", subject)
	}
	return ExecutionKey{Partition: p, Tenant: TenantID(parts[1]), ID: ExecutionID(parts[2])}, parts[3] == leafRequested, nil
}

func (k ExecutionKey) root() string {
	return subjectExecution + strconv.Itoa(k.Partition) + "." + string(k.Tenant) + "." + string(k.ID) + "."
}

// Stream is the stream that holds the aggregate.
func (k ExecutionKey) Stream() string { return PartitionStream(k.Partition) }

// Requested is the subject of the first commit, and of every later one that is a job (see Job).
func (k ExecutionKey) Requested() string { return k.root() + leafRequested }

// Log is the subject of all others.
func (k ExecutionKey) Log() string { return k.root() + leafLog }

// All matches every commit of the aggregate: the subject of the fence.
func (k ExecutionKey) All() string { return k.root() + "*" }
