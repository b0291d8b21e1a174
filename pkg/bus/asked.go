package bus

import (
	"encoding/json"

	"go.uber.org/zap"
)

// askedFor says on whose behalf a call was made, as far as its body tells, as log fields.
func askedFor(body []byte) []zap.Field {
	var who struct {
		Tenant    string `json:"tenant"`
		Execution string `json:"execution"`
	}
	_ = json.Unmarshal(body, &who) // what cannot be read names nobody
	fields := make([]zap.Field, 0, 4)
	if who.Tenant != "" {
		fields = append(fields, zap.String("tenant", who.Tenant))
	}
	if who.Execution != "" {
		fields = append(fields, zap.String("execution_id", who.Execution))
	}
	return fields
}
