package access

import (
	"slices"
	"strconv"
	"strings"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Role is what a user of the account is for.
type Role string

// The roles of the platform. A tenant's role is made by TenantRole.
const (
	Gateway  Role = "gateway"
	Catalog  Role = "catalog"
	Executor Role = "executor"
	Limiter  Role = "limiter"
	Admin    Role = "admin" // people with the nats command line, and `agentflow replay`: everything
)

// Services are the roles that the platform runs with, in the order in which they start.
func Services() []Role { return []Role{Limiter, Catalog, Executor, Gateway} }

// TenantRole is the role of an integration that listens to what happens to one tenant.
func TenantRole(t protocol.TenantID) Role { return Role("tenant-" + string(t)) }

// Permissions are the subjects of one user. What is not listed is refused.
type Permissions struct {
	Publish   []string
	Subscribe []string
	Refused   []string // of what Publish would allow
	Responses bool     // may answer a request once, wherever its reply subject points
}

// inbox matches the private inboxes of a role: bus.Connect names them after the service, so that no
// service can listen to the answers that another one gets.
func inbox(r Role) string { return "_INBOX." + string(r) + ".>" }

// Of lists the permissions of a service's role on a platform with so many partitions.
func Of(r Role, partitions int) Permissions {
	var p Permissions
	switch r {
	case Gateway:
		p = gateway(partitions)
	case Catalog:
		p = catalog(partitions)
	case Executor:
		p = executor(partitions)
	case Limiter:
		p = Permissions{Subscribe: serves("limiter"), Responses: true}
	case Admin:
		return Permissions{Publish: []string{">"}, Subscribe: []string{">"}}
	default:
		return Permissions{}
	}
	p.Subscribe = append(p.Subscribe, inbox(r))
	for _, side := range []*[]string{&p.Publish, &p.Subscribe, &p.Refused} {
		slices.Sort(*side)
		*side = slices.Compact(*side)
	}
	return p
}

// OfTenant lists the permissions of a tenant's integration: to listen to the tenant's executions, their progress and
// the documents that hold no secret, as they happen. A listener sees a commit when it is sent, so also one that the
// log then refuses; the REST API has what stands.
func OfTenant(t protocol.TenantID) Permissions {
	tenant := string(t)
	return Permissions{Subscribe: []string{
		"agentflow.execution.*." + tenant + ".>",
		"agentflow.progress." + tenant + ".>",
		"agentflow.catalog." + tenant + "." + string(protocol.KindWorkflow) + ".>",
		"agentflow.catalog." + tenant + "." + string(protocol.KindSource) + ".>",
	}}
}

// gateway: it asks for executions and for their end, sends commands, asks the other services, and reads.
func gateway(partitions int) Permissions {
	logs := partitionStreams(partitions)
	return Permissions{
		Publish: slices.Concat(
			[]string{
				"agentflow.execution.*.*.*.requested", // the first commit, and the one that asks for the end
				"agentflow.command.*.*",
				"agentflow.signal.*",
				"agentflow.call.catalog.>",
				protocol.CallSubject(protocol.TestSource.Subject),
			},
			limiterCalls(),
			bucketWrites(protocol.BucketSpecs), bucketWrites(protocol.BucketIdem), objectWrites(),
			reads(logs...), reads(protocol.StreamCatalog, "KV_"+protocol.BucketSpecs, "KV_"+protocol.BucketIdem),
			follows(protocol.StreamCatalog), objectReads(),
		),
		Subscribe: []string{"agentflow.execution.>", "agentflow.progress.>"},
	}
}

// executor: it takes jobs, appends to executions, and tells of its progress.
func executor(partitions int) Permissions {
	logs := partitionStreams(partitions)
	publish := slices.Concat(
		[]string{
			"agentflow.execution.*.*.*.log",
			"agentflow.execution.*.*.*.requested", // what it carries forward becomes a job again
			"agentflow.progress.*.*", inbox(Gateway),
		},
		limiterCalls(), objectWrites(),
		reads(logs...), reads("KV_"+protocol.BucketSpecs), objectReads(),
	)
	for _, stream := range logs {
		publish = append(publish,
			"$JS.API.CONSUMER.CREATE."+stream+"."+protocol.DurableExecutor+".>",
			"$JS.API.CONSUMER.INFO."+stream+"."+protocol.DurableExecutor,
			"$JS.API.CONSUMER.MSG.NEXT."+stream+"."+protocol.DurableExecutor,
			"$JS.ACK."+stream+"."+protocol.DurableExecutor+".>",
		)
	}
	return Permissions{Publish: publish, Subscribe: append(serves("executor"), "agentflow.signal.*"), Responses: true}
}

// catalog: it makes the streams, carries out commands, writes the catalog, reads and trims the logs, and answers.
func catalog(partitions int) Permissions {
	logs := partitionStreams(partitions)
	publish := slices.Concat(
		[]string{"agentflow.catalog.*.*.*", inbox(Gateway), inbox(Admin)},
		reads(protocol.StreamCatalog), objectReads(),
		follows(protocol.StreamCatalog),
		[]string{
			"$JS.API.INFO", // a bucket asks what the server can do before it is made
			"$JS.API.CONSUMER.CREATE." + protocol.StreamCommands + ".catalog",
			"$JS.API.CONSUMER.INFO." + protocol.StreamCommands + ".catalog",
			"$JS.API.CONSUMER.MSG.NEXT." + protocol.StreamCommands + ".catalog",
			"$JS.ACK." + protocol.StreamCommands + ".catalog.>",
		},
	)
	var refused []string
	for _, stream := range logs {
		publish = append(publish, "$JS.API.STREAM.PURGE."+stream)
		publish = append(publish, follows(stream)...)
		// It follows with consumers of its own; the queue of work is the executors'.
		queue := stream + "." + protocol.DurableExecutor
		refused = append(refused,
			"$JS.API.CONSUMER.CREATE."+queue, "$JS.API.CONSUMER.CREATE."+queue+".>", "$JS.API.CONSUMER.DELETE."+queue, "$JS.API.CONSUMER.MSG.NEXT."+queue)
	}
	for _, stream := range allStreams(partitions) {
		publish = append(publish, "$JS.API.STREAM.CREATE."+stream, "$JS.API.STREAM.INFO."+stream)
	}
	for _, bucket := range buckets() {
		publish = append(publish, "$JS.API.STREAM.UPDATE."+bucket) // so are buckets made, also those that are there
	}
	publish = append(publish, "$JS.API.STREAM.PURGE.OBJ_"+protocol.BucketObjects) // values whose executions are gone
	return Permissions{Publish: publish, Subscribe: serves("catalog"), Refused: refused, Responses: true}
}

// serves are the subjects of a service that answers calls, and that shows up in `nats micro ls`.
func serves(service string) []string {
	return []string{"agentflow.call." + service + ".>", "$SRV.*", "$SRV.*." + service, "$SRV.*." + service + ".*"}
}

func limiterCalls() []string {
	return []string{
		protocol.CallSubject(protocol.AcquireLimit.Subject), protocol.CallSubject(protocol.SettleLimit.Subject),
		protocol.CallSubject(protocol.LimitUsage.Subject), protocol.CallSubject(protocol.CloseLimit.Subject),
	}
}

// reads are the requests that open a stream and get single messages from it.
func reads(streams ...string) []string {
	var out []string
	for _, s := range streams {
		out = append(out, "$JS.API.STREAM.INFO."+s, "$JS.API.DIRECT.GET."+s, "$JS.API.DIRECT.GET."+s+".>")
	}
	return out
}

// follows are the requests that read a stream in order, with a consumer that ends with its reader.
func follows(stream string) []string {
	return []string{
		"$JS.API.STREAM.INFO." + stream,
		"$JS.API.CONSUMER.CREATE." + stream + ".>", "$JS.API.CONSUMER.INFO." + stream + ".*",
		"$JS.API.CONSUMER.MSG.NEXT." + stream + ".*", "$JS.API.CONSUMER.DELETE." + stream + ".*",
	}
}

func bucketWrites(bucket string) []string { return []string{"$KV." + bucket + ".>"} }

func objectWrites() []string {
	return []string{"$O." + protocol.BucketObjects + ".C.>", "$O." + protocol.BucketObjects + ".M.>"}
}

// objectReads follow the chunks of an object, which are pushed, under flow control.
func objectReads() []string {
	stream := "OBJ_" + protocol.BucketObjects
	return slices.Concat(reads(stream), follows(stream), []string{"$JS.FC." + stream + ".>"})
}

func partitionStreams(partitions int) []string {
	out := make([]string, partitions)
	for p := range out {
		out[p] = protocol.PartitionStream(p)
	}
	return out
}

// allStreams are those of bus.Connect's layout.
func allStreams(partitions int) []string {
	return slices.Concat(partitionStreams(partitions), []string{protocol.StreamCommands, protocol.StreamCatalog}, buckets())
}

func buckets() []string {
	return []string{"KV_" + protocol.BucketSpecs, "KV_" + protocol.BucketIdem, "OBJ_" + protocol.BucketObjects}
}

// quoted is a subject as the server's configuration takes it.
func quoted(subjects []string) string {
	var b strings.Builder
	for _, s := range subjects {
		b.WriteString("\n          " + strconv.Quote(s) + ",")
	}
	return "[" + b.String() + "\n        ]"
}
