package bus

import (
	"encoding/json"
	"strings"

	"go.uber.org/zap"
)

// askedFor says on whose behalf a call was made, as far as its body tells, as log fields.
func askedFor(body []byte) []zap.Field {
	var who struct {
		Tenant   string `json:"tenant"`
		ID       string `json:"id"`
		Workflow string `json:"workflow_id"`
	}
	_ = json.Unmarshal(body, &who) // what cannot be read names nobody
	fields := make([]zap.Field, 0, 4)
	add := func(name, value string) {
		if value != "" {
			fields = append(fields, zap.String(name, value))
		}
	}
	add("tenant", who.Tenant)
	switch kind, _, _ := strings.Cut(who.ID, "_"); kind {
	case "exec":
		add("execution_id", who.ID)
	case "wf":
		who.Workflow = who.ID
	}
	add("workflow_id", who.Workflow)
	return fields
}
