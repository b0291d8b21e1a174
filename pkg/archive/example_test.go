package archive_test

import (
	"fmt"

	"github.com/agentflow/agentflow/pkg/archive"
)

func Example() {
	commit := `{"events":[{"type":"cancel_requested.v1","at":"2026-11-23T04:45:43.438Z","data":{"actor":"key_01","reason":"too slow"}}]}`
	column := archive.Append(nil, []byte(commit))
	body, err := archive.Open(column)
	fmt.Println(len(commit), "bytes take", len(column), string(body) == commit, err)
	// Output: 121 bytes take 54 true <nil>
}
