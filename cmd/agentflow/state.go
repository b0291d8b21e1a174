package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// initialState is what the command line says about the state in which an execution begins.
type initialState struct {
	input string
	set   []string
}

func (s *initialState) flags(c *cobra.Command) {
	c.Flags().StringVar(&s.input, "input", "", "initial state, a JSON object; @FILE reads it from a file")
	c.Flags().StringArrayVar(&s.set, "set", nil, "`KEY=VALUE` in the initial state, a text; may be repeated, and counts over --input")
}

// read is the initial state: --input, then each --set.
func (s *initialState) read(p *process) (map[string]json.RawMessage, error) {
	state := map[string]json.RawMessage{}
	if s.input != "" {
		text := []byte(s.input)
		if file, ok := strings.CutPrefix(s.input, "@"); ok {
			var err error
			if text, err = readFile(p, file); err != nil {
				return nil, err
			}
		}
		if err := json.Unmarshal(text, &state); err != nil || state == nil {
			return nil, errors.New(`--input must be a JSON object such as {"user_input":"hello"}`)
		}
	}
	for _, entry := range s.set {
		key, value, ok := strings.Cut(entry, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--set wants KEY=VALUE, not %q", entry)
		}
		text, err := json.Marshal(value)
		if err != nil {
			return nil, fmt.Errorf("--set %s: %w", key, err)
		}
		state[key] = text
	}
	return state, nil
}
