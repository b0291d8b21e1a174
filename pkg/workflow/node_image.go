package workflow

func init() {
	RegisterNodeType(NodeType{
		Name:        "image",
		Description: "Makes an image from a prompt.",
		Kind:        "image",
		OutputKey:   "image_result",
		compile:     compileImage,
	})
}

func compileImage(n *PlanNode, report func(Problem)) {
	f := NodeFields(n.Node, report)
	n.Prompt = prompt(f)
	f.Name("size", "1024x1024")
	f.Name("quality", "standard")
	f.Name("style", "vivid")
	checkInline(f)
}
