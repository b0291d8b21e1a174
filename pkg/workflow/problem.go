package workflow

import (
	"encoding/json"
	"fmt"
	"strings"
)

// The types of Problem. Each has one code; see ProblemCode.
const (
	ProblemSpecInvalid        = "spec_invalid"
	ProblemStartNodeMissing   = "start_node_missing"
	ProblemMetadataInvalid    = "metadata_invalid"
	ProblemNodeTypeInvalid    = "node_type_invalid"
	ProblemSourceKindInvalid  = "source_kind_invalid"
	ProblemStartNodeInvalid   = "start_node_invalid"
	ProblemEdgeSourceInvalid  = "edge_source_invalid"
	ProblemEdgeTargetInvalid  = "edge_target_invalid"
	ProblemQueueSourceInvalid = "queue_source_invalid"
	ProblemQueueTargetInvalid = "queue_target_invalid"
	ProblemQueueUnused        = "queue_unused"
	ProblemSourceMissing      = "source_missing"
	ProblemDuplicateNode      = "duplicate_node_id"
	ProblemDuplicateSource    = "duplicate_source_id"
	ProblemDuplicateQueue     = "duplicate_queue_id"
	ProblemCycleDetected      = "cycle_detected"
	ProblemOrphanedNode       = "orphaned_node"
	ProblemMetadataMissing    = "metadata_missing"
)

var problemCodes = map[string]string{
	ProblemSpecInvalid:        "E001",
	ProblemStartNodeMissing:   "E002",
	ProblemMetadataInvalid:    "E003",
	ProblemNodeTypeInvalid:    "E004",
	ProblemSourceKindInvalid:  "E004",
	ProblemStartNodeInvalid:   "E005",
	ProblemEdgeSourceInvalid:  "E006",
	ProblemEdgeTargetInvalid:  "E006",
	ProblemQueueSourceInvalid: "E007",
	ProblemQueueTargetInvalid: "E007",
	ProblemQueueUnused:        "E007",
	ProblemSourceMissing:      "E008",
	ProblemDuplicateNode:      "E009",
	ProblemDuplicateSource:    "E010",
	ProblemDuplicateQueue:     "E011",
	ProblemCycleDetected:      "E012",
	ProblemOrphanedNode:       "E013",
	ProblemMetadataMissing:    "E014",
}

// ProblemCode returns the code (E001 to E014) of a problem type, or "" for a type that is not one.
func ProblemCode(problemType string) string { return problemCodes[problemType] }

// Problem is one finding about a spec, written for the person who wrote the spec.
// NodeID and Field are empty, and null in JSON, when the problem belongs to no node or field.
type Problem struct {
	Type    string
	Code    string
	Message string
	NodeID  string
	Field   string
}

// NewProblem makes a Problem of one of the Problem… types; the code follows from the type.
func NewProblem(problemType, nodeID, field, format string, args ...any) Problem {
	return Problem{
		Type:    problemType,
		Code:    problemCodes[problemType],
		Message: fmt.Sprintf(format, args...),
		NodeID:  nodeID,
		Field:   field,
	}
}

// Error says where the problem is and what it is, in one line.
func (p Problem) Error() string {
	var where []string
	if p.NodeID != "" {
		where = append(where, "node "+shorten(p.NodeID))
	}
	if p.Field != "" {
		where = append(where, p.Field)
	}
	if len(where) == 0 {
		return p.Code + " " + p.Message
	}
	return p.Code + " " + strings.Join(where, ", ") + ": " + p.Message
}

// MarshalJSON writes type, code, message, node_id and field; the last two are null when empty.
func (p Problem) MarshalJSON() ([]byte, error) {
	// Written by hand so that the && and < of conditions reach the reader unescaped.
	b := appendString(append(make([]byte, 0, 256), `{"type":`...), p.Type)
	b = appendString(append(b, `,"code":`...), p.Code)
	b = appendString(append(b, `,"message":`...), p.Message)
	b = appendOptional(append(b, `,"node_id":`...), p.NodeID)
	b = appendOptional(append(b, `,"field":`...), p.Field)
	return append(b, '}'), nil
}

func appendOptional(b []byte, s string) []byte {
	if s == "" {
		return append(b, "null"...)
	}
	return appendString(b, s)
}

// UnmarshalJSON reads what MarshalJSON writes.
func (p *Problem) UnmarshalJSON(data []byte) error {
	var in struct {
		Type    string `json:"type"`
		Code    string `json:"code"`
		Message string `json:"message"`
		NodeID  string `json:"node_id"` // null leaves it empty
		Field   string `json:"field"`
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return err
	}
	*p = Problem(in)
	return nil
}

// Report is everything Validate has to say. A spec is valid when it has no errors; warnings
// do not stop it from running.
type Report struct {
	Valid    bool      `json:"valid"`
	Errors   []Problem `json:"errors"`
	Warnings []Problem `json:"warnings"`
}

// MarshalJSON writes empty lists as [], never as null.
func (r Report) MarshalJSON() ([]byte, error) {
	type plain Report
	if r.Errors == nil {
		r.Errors = []Problem{}
	}
	if r.Warnings == nil {
		r.Warnings = []Problem{}
	}
	return json.Marshal(plain(r))
}

// InvalidError is why a Spec could not be compiled.
type InvalidError struct {
	Problems []Problem // at least one
}

func (e *InvalidError) Error() string {
	if len(e.Problems) == 1 {
		return "workflow is invalid: " + e.Problems[0].Error()
	}
	return fmt.Sprintf("workflow is invalid: %s (and %d more)", e.Problems[0].Error(), len(e.Problems)-1)
}

// maxProblems bounds a report: past it a hostile document would cost more to describe than to read.
const maxProblems = 1000

// findings collects problems up to maxProblems and counts the rest.
type findings struct {
	list []Problem
	more int
}

func (f *findings) add(p Problem) {
	if len(f.list) < maxProblems {
		f.list = append(f.list, p)
		return
	}
	f.more++
}

func (f *findings) all() []Problem {
	if f.more > 0 {
		f.list = append(f.list, NewProblem(ProblemSpecInvalid, "", "",
			"and %d more problems; fix these %d first", f.more, maxProblems))
		f.more = 0
	}
	return f.list
}

// shorten keeps a hostile name from filling a message, without cutting through a character.
func shorten(s string) string {
	const limit = 120
	if len(s) <= limit {
		return s
	}
	cut := limit
	for cut > 0 && s[cut]&0xC0 == 0x80 {
		cut--
	}
	return s[:cut] + "…"
}

// quoted is shorten in quotes, with control characters made visible.
func quoted(s string) string { return fmt.Sprintf("%q", shorten(s)) }
