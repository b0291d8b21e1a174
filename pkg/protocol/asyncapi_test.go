package protocol_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// TestAsyncAPI writes docs/asyncapi.yaml from the code of this package, with -update, and holds it against the code
// without: every subject, call, command and event is in it, and nothing more.
func TestAsyncAPI(t *testing.T) {
	s := readSource(t)
	channels, operations, messages := object{}, object{}, object{}
	ref := func(kind, name string) object { return object{{"$ref", "#/" + kind + "/" + name}} }
	message := func(name, summary string, payload object, stored bool) object {
		m := object{{"name", name}, {"summary", summary}, {"contentType", "application/json"}, {"payload", payload}}
		if stored {
			m = append(m, pair{"traits", list{ref("components/messageTraits", "cloudEvent")}})
		}
		messages = append(messages, pair{name, m})
		return object{{name, ref("components/messages", name)}}
	}
	parameter := func(name, description string, values ...string) pair {
		p := object{{"description", description}}
		if len(values) > 0 {
			options := list{}
			for _, v := range values {
				options = append(options, v)
			}
			p = append(p, pair{"enum", options})
		}
		return pair{name, p}
	}
	tenant := parameter("tenant", "Id of the tenant")
	execution := parameter("execution", "Id of the execution")
	partition := parameter("partition", "0 to one less than the partitions of the log, by the hash of the execution's id")
	channel := func(name, address, description string, parameters, carried object) {
		c := object{{"address", address}, {"description", description}}
		if len(parameters) > 0 {
			c = append(c, pair{"parameters", parameters})
		}
		channels = append(channels, pair{name, append(c, pair{"messages", carried})})
	}
	operation := func(name, action, on, summary string, more ...pair) {
		operations = append(operations, pair{name, append(object{{"action", action}, {"channel", ref("channels", on)}, {"summary", summary}}, more...)})
	}

	// Commands: one message for each verb.
	s.build("Command", "Command", nil)
	carried := object{}
	var verbs []string
	for _, v := range s.verbs {
		verbs = append(verbs, v.name)
		s.build(v.data, v.data, nil)
		s.build(v.answer, v.answer, nil)
		require.NotNil(t, s.used[v.data], "%s names %s, which is no type", v.name, v.data)
		require.NotNil(t, s.used[v.answer], "%s names %s, which is no type", v.name, v.answer)
		carried = append(carried, message("command."+v.name, v.data+", answered by "+v.answer+" on the subject in reply", object{{"allOf", list{
			refTo("Command"),
			object{{"properties", object{{"verb", object{{"const", v.name}}}, {"data", refTo(v.data)}}}},
		}}}, true)...)
	}
	channel("commands", fill(protocol.CommandSubject("{tenant}", "{verb}")), "Writes on their way to the catalog. Stream "+protocol.StreamCommands+", a work queue.",
		object{tenant, parameter("verb", "What is asked for", verbs...)}, carried)
	operation("handleCommands", "receive", "commands", "The catalog carries commands out, once each, and answers on the subject in reply.")

	// The catalog's log.
	s.build("CatalogEvent", "CatalogEvent", nil)
	channel("catalog", fill(protocol.CatalogSubject("{tenant}", "{kind}", "id")), "Every change of every document, with the whole document. Stream "+protocol.StreamCatalog+", for ever.",
		object{tenant, parameter("kind", "What the document is", s.kinds...), parameter("id", "Its id, escaped as one token")},
		message("catalogEvent", "A document, as it is after the change", refTo("CatalogEvent"), true))
	operation("tellChanges", "send", "catalog", "The catalog appends what it has carried out; gateways follow.")

	// The logs of executions.
	var kinds list
	for _, e := range s.events {
		s.build(e.name, e.name, nil)
		kinds = append(kinds, object{{"type", "object"}, {"required", list{"type", "at", "data"}}, {"properties", object{
			{"type", object{{"const", e.wire}}}, {"at", object{{"type", "string"}, {"format", "date-time"}}}, {"data", refTo(e.name)},
		}}})
	}
	commit := message("commit", "Events of one execution that appear together or not at all; "+protocol.CommitType, object{
		{"type", "object"}, {"required", list{"events"}}, {"properties", object{
			{"events", object{{"type", "array"}, {"minItems", 1}, {"items", object{{"oneOf", kinds}}}}},
		}},
	}, true)
	key := protocol.ExecutionKey{Partition: 0, Tenant: "{tenant}", ID: "{execution}"}
	at := func(subject string) string { return strings.Replace(subject, ".0.", ".{partition}.", 1) }
	channel("executionRequested", at(key.Requested()), "A commit that asks for an executor: the first of an execution, a cancel, or what carries a waiting one on. The queue of jobs. Streams EXECUTIONS_<partition>.", object{partition, tenant, execution}, commit)
	channel("executionLog", at(key.Log()), "Every other commit of an execution. Streams EXECUTIONS_<partition>.", object{partition, tenant, execution}, commit)
	operation("request", "send", "executionRequested", "The gateway accepts an execution.")
	operation("execute", "receive", "executionRequested", "An executor takes the job, and acknowledges it at the terminal commit.")
	operation("append", "send", "executionLog", "The executor appends what happened; the gateway appends a request to cancel.")
	operation("project", "receive", "executionLog", "The catalog writes every event to Postgres.")

	// What is not stored.
	channel("progress", fill(protocol.ProgressSubject("{tenant}", "{execution}")), "Live progress for eyes; not stored.", object{tenant, execution},
		message("progress", "What a node has to tell while it runs", object{
			{"type", "object"}, {"required", list{"type", "at"}}, {"properties", object{
				{"type", object{{"type", "string"}}}, {"at", object{{"type", "string"}, {"format", "date-time"}}}, {"node", object{{"type", "string"}}},
			}},
		}, false))
	operation("tellProgress", "send", "progress", "The executor tells what a node does; gateways pass it on to streams.")
	channel("signal", fill(protocol.SignalSubject("{execution}")), "Nudges whoever runs the execution to read its log again; not stored, and empty.", object{execution},
		message("signal", "Nothing but its arrival", object{{"type", "null"}}, false))
	operation("nudge", "send", "signal", "The gateway nudges after it has appended to a log.")

	// Calls: request and reply.
	s.build("Error", "Error", nil)
	for _, c := range s.calls {
		for _, name := range []string{c.request, c.response} {
			s.build(name, name, nil)
			require.NotNil(t, s.used[name], "%s: %s is no type", c.subject, name)
		}
		channel("call."+c.subject, protocol.CallSubject(c.subject), "Request and reply through the NATS service framework; not stored.", object{},
			message("ask."+c.subject, c.request, refTo(c.request), false))
		channels = append(channels, pair{"reply." + c.subject, object{
			{"address", nil},
			{"description", "The inbox of whoever asks."},
			{"messages", message("reply."+c.subject, c.response+", or why not", object{
				{"type", "object"}, {"properties", object{{"ok", refTo(c.response)}, {"error", refTo("Error")}}},
			}, false)},
		}})
		service, _, _ := strings.Cut(c.subject, ".")
		operation("answer."+c.subject, "receive", "call."+c.subject, "The "+service+" answers.", pair{"reply", object{
			{"address", object{{"location", "$message.header#/reply"}}}, {"channel", ref("channels", "reply."+c.subject)},
		}})
	}

	addresses := map[string]bool{}
	for _, root := range s.roots {
		found := false
		for _, c := range channels {
			address, _ := c.value.(object)[0].value.(string)
			addresses[address] = true
			found = found || strings.HasPrefix(address, root)
		}
		require.True(t, found, "no channel stands under %s", root)
	}
	for address := range addresses {
		require.True(t, address == "" || slices.ContainsFunc(s.roots, func(root string) bool { return strings.HasPrefix(address, root) }),
			"%s stands under no subject that the code knows", address)
	}

	schemas := object{}
	for _, name := range slices.Sorted(maps.Keys(s.used)) {
		schemas = append(schemas, pair{name, s.used[name]})
	}
	doc := object{
		{"asyncapi", "3.0.0"},
		{"info", object{
			{"title", "AgentFlow over NATS"},
			{"version", "1.0.0"},
			{"description", "What the services say to each other. Clients use the HTTP API; integrations may read what is stored, within their tenant's subjects."},
			{"license", object{{"name", "Apache-2.0"}}},
		}},
		{"defaultContentType", "application/json"},
		{"servers", object{{"nats", object{{"host", "localhost:4222"}, {"protocol", "nats"}, {"description", "NATS with JetStream, 2.12 or newer"}}}}},
		{"channels", channels},
		{"operations", operations},
		{"components", object{
			{"messages", messages},
			{"messageTraits", object{{"cloudEvent", object{
				{"description", "CloudEvents 1.0, binary mode, and the trace it belongs to."},
				{"headers", object{
					{"type", "object"},
					{"required", list{"ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time"}},
					{"properties", object{
						{"ce-id", object{{"type", "string"}}},
						{"ce-type", object{{"type", "string"}}},
						{"ce-source", object{{"type", "string"}}},
						{"ce-specversion", object{{"const", "1.0"}}},
						{"ce-time", object{{"type", "string"}, {"format", "date-time"}}},
						{"traceparent", object{{"type", "string"}}},
					}},
				}},
			}}}},
			{"schemas", schemas},
		}},
	}
	var b strings.Builder
	b.WriteString("# Written by a test of pkg/protocol from the code; go test ./pkg/protocol -run TestAsyncAPI -update writes it again.")
	write(&b, doc, "")
	keep(t, "../../docs/asyncapi.yaml", b.String(), *update)
}

// fill undoes what a subject does to the id that stands for a parameter.
func fill(subject string) string {
	if strings.HasSuffix(subject, ".id") {
		return strings.TrimSuffix(subject, "id") + "{id}"
	}
	return subject
}
