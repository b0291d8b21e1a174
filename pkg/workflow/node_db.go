package workflow

func init() {
	RegisterNodeType(NodeType{
		Name:        "db",
		Description: "Runs a read-only SQL query.",
		Kind:        "db",
		OutputKey:   "db_result",
		compile:     compileDB,
	})
}

func compileDB(n *PlanNode, report func(Problem)) {
	f := NodeFields(n.Node, report)
	n.Query = textOrTemplate(f, "query", "query_template")
	if f.Blank("query") && f.Blank("query_template") {
		f.Missing("query", "a db node needs a query, or a query_template such as \"select * from orders where id = {order_id}\"")
	}
	if k := kindOf(f.values["params"]); f.Has("params") && k != "an object" && k != "an array" {
		f.wrongType("params", "an object or an array")
	}
	f.Integer("limit", 100, 1, maxInteger)
	f.Seconds("timeout")
}
