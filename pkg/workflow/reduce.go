package workflow

import (
	"encoding/json"
	"maps"
)

// reducer says how a key of the state takes up what a node returned.
type reducer uint8

const (
	toOutputs  reducer = iota // any key without a reducer goes under outputs
	firstValue                // the first non-empty value stays
	merge                     // shallow merge of objects, the newer wins
	appendList                // arrays are joined
	addInteger
	addDecimal
)

var reducers = map[string]reducer{
	"user_input":     firstValue,
	"intent":         firstValue,
	"text_result":    firstValue,
	"final_output":   firstValue,
	"image_result":   merge,
	"api_result":     merge,
	"metadata":       merge,
	"outputs":        merge,
	"db_result":      appendList,
	"errors":         appendList,
	"execution_path": appendList,
	"current_node":   appendList,
	"tokens_used":    addInteger,
	"cost":           addDecimal,
}

// Reduce folds a node's delta into the state and returns the new state. Neither v nor delta,
// nor anything reachable from them, is changed.
//
// The caller's initial state may hold any JSON type under any key, so a reducer can meet the
// wrong type. It never fails: a lone value joins a list as one item; an object replaces what
// is not an object, and a non-empty value that is not an object replaces an object; a number
// replaces what is not a number; and what cannot be added is left out.
func Reduce(v, delta Values) Values {
	out := maps.Clone(v) // half of what making and filling one costs
	if out == nil {
		out = Values{}
	}
	if d, ok := delta["outputs"]; ok {
		out["outputs"] = mergeObjects(v["outputs"], d)
	}
	var named map[string]any // new outputs.<key>, allocated at the first one
	for key, value := range delta {
		switch reducers[key] {
		case firstValue:
			if Empty(out[key]) && !Empty(value) {
				out[key] = value
			}
		case merge:
			if key != "outputs" {
				out[key] = mergeObjects(v[key], value)
			}
		case appendList:
			out[key] = join(v[key], value)
		case addInteger:
			out[key] = addIntegers(v[key], value)
		case addDecimal:
			out[key] = addDecimals(v[key], value)
		case toOutputs:
			if named == nil {
				old, _ := object(out["outputs"])
				named = make(map[string]any, len(old)+1)
				maps.Copy(named, old)
			}
			named[key] = value
		}
	}
	if named != nil {
		out["outputs"] = named
	}
	return out
}

func mergeObjects(old, newer any) any {
	if Empty(newer) {
		if old == nil {
			return newer
		}
		return old
	}
	add, ok := object(newer)
	if !ok {
		return newer
	}
	base, ok := object(old)
	if !ok || len(base) == 0 {
		return newer
	}
	merged := make(map[string]any, len(base)+len(add))
	maps.Copy(merged, base)
	maps.Copy(merged, add)
	return merged
}

// join always makes a new array: two branches may append to the same old one.
func join(old, newer any) any {
	a, b := items(old), items(newer)
	list := make([]any, 0, len(a)+len(b))
	return append(append(list, a...), b...)
}

func items(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	case []string:
		list := make([]any, len(v))
		for i, s := range v {
			list[i] = s
		}
		return list
	case []map[string]any:
		list := make([]any, len(v))
		for i, m := range v {
			list[i] = m
		}
		return list
	}
	return []any{v}
}

func addIntegers(old, newer any) any {
	a, okA := decimalOf(old)
	b, okB := decimalOf(newer)
	switch {
	case okA && okB:
		return json.Number(a.whole().plus(b.whole()).text())
	case okA:
		return json.Number(a.whole().text())
	case okB:
		return json.Number(b.whole().text())
	}
	return json.Number("0")
}

func addDecimals(old, newer any) any {
	a, okA := decimalOf(old)
	b, okB := decimalOf(newer)
	switch {
	case okA && okB:
		return json.Number(a.plus(b).decimal())
	case okA:
		return json.Number(a.decimal())
	case okB:
		return json.Number(b.decimal())
	}
	return json.Number("0.0")
}
