package workflow

import (
	"maps"
	"slices"
)

func init() {
	RegisterNodeType(NodeType{
		Name:        "api",
		Description: "Calls an HTTP API.",
		Kind:        "api",
		OutputKey:   "api_result",
		compile:     compileAPI,
	})
}

func compileAPI(n *PlanNode, report func(Problem)) {
	f := NodeFields(n.Node, report)
	f.OneOf("method", "GET", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")
	n.Endpoint = CompileTemplate(f.Text("endpoint", ""))
	checkHeaders(f)
	f.Object("params")
	f.OneOf("response", "auto", "auto", "json", "text", "binary")
	f.Seconds("timeout")
}

// checkHeaders wants an object whose values fit on a header line.
func checkHeaders(f Fields) {
	headers, ok := f.Object("headers")
	if !ok {
		return
	}
	for _, name := range slices.Sorted(maps.Keys(headers.values)) {
		switch kindOf(headers.values[name]) {
		case "a string", "a number", "true or false":
		default:
			headers.wrongType(name, "a string")
		}
	}
}
