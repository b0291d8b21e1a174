package protocol_test

import (
	"fmt"

	"github.com/agentflow/agentflow/pkg/protocol"
)

func ExampleKeyOf() {
	key := protocol.KeyOf(protocol.DefaultParts, "acme", "exec_1")
	fmt.Println(key.Stream())
	fmt.Println(key.Requested())
	fmt.Println(key.Log())
	// Output:
	// EXECUTIONS_0
	// agentflow.execution.0.acme.exec_1.requested
	// agentflow.execution.0.acme.exec_1.log
}

func ExampleEncodeCommit() {
	body, err := protocol.EncodeCommit(protocol.Commit{ID: "cmt_1", Events: []protocol.Stamped{
		{At: at(5), Event: protocol.Started{Executor: "executor-1", Delivery: 1}},
	}})
	fmt.Println(string(body), err)
	// Output: {"events":[{"type":"started.v1","at":"2026-01-02T03:04:05.006Z","data":{"executor":"executor-1","delivery":1}}]} <nil>
}

func ExampleToken() {
	fmt.Println(protocol.CatalogSubject("acme", protocol.KindSource, "my source"))
	// Output: agentflow.catalog.acme.source.my=20source
}
