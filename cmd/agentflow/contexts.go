package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// contexts is the file that keeps platforms by name.
type contexts struct {
	Current  string               `json:"current,omitempty"`
	Contexts map[string]placement `json:"contexts"`
}

// placement is a platform, and as whom to speak to it.
type placement struct {
	URL    string `json:"url"`
	Key    string `json:"key,omitempty"`
	Tenant string `json:"tenant,omitempty"`
}

// contextFile is where contexts are kept: AGENTFLOW_CONFIG, else agentflow/config.json in the folder for
// configurations of the XDG specification.
func (p *process) contextFile() (string, error) {
	if file := p.env("AGENTFLOW_CONFIG"); file != "" {
		return file, nil
	}
	if base := p.env("XDG_CONFIG_HOME"); filepath.IsAbs(base) {
		return filepath.Join(base, "agentflow", "config.json"), nil
	}
	if home := p.env("HOME"); home != "" {
		return filepath.Join(home, ".config", "agentflow", "config.json"), nil
	}
	return "", errors.New("there is no home folder to keep contexts in: set AGENTFLOW_CONFIG to a file")
}

func (p *process) contexts() (contexts, error) {
	none := contexts{Contexts: map[string]placement{}}
	file, err := p.contextFile()
	if err != nil {
		return none, err
	}
	info, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return none, fmt.Errorf("read contexts: %w", err)
	}
	if others := info.Mode().Perm() & 0o077; others != 0 && filepath.Separator == '/' {
		return none, fmt.Errorf("%s holds keys, and others may reach it (mode %04o): chmod 600 it", file, info.Mode().Perm())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return none, fmt.Errorf("read contexts: %w", err)
	}
	kept := none
	if err := json.Unmarshal(text, &kept); err != nil {
		return none, fmt.Errorf("%s does not hold contexts: %w", file, err)
	}
	if kept.Contexts == nil {
		kept.Contexts = map[string]placement{}
	}
	return kept, nil
}

// keepContexts replaces the file as a whole: whoever reads it meanwhile sees the old one or the new one.
func (p *process) keepContexts(c contexts) error {
	file, err := p.contextFile()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	folder := filepath.Dir(file)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	next, err := os.CreateTemp(folder, ".config-*") // readable for its owner alone
	if err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	_, err = next.Write(append(text, '\n'))
	err = errors.Join(err, next.Sync(), next.Close())
	if err == nil {
		err = os.Rename(next.Name(), file)
	}
	if err != nil {
		return fmt.Errorf("keep contexts: %w", errors.Join(err, os.Remove(next.Name())))
	}
	return nil
}

// currentContext is the name of the one that is used when nothing else is named; "" when there is none.
func (p *process) currentContext() (string, error) {
	if p.env("AGENTFLOW_CONFIG") == "" && p.env("XDG_CONFIG_HOME") == "" && p.env("HOME") == "" {
		return "", nil // nobody can have kept one
	}
	kept, err := p.contexts()
	return kept.Current, err
}

func (p *process) contextNamed(name string) (placement, error) {
	kept, err := p.contexts()
	if err != nil {
		return placement{}, err
	}
	at, ok := kept.Contexts[name]
	if !ok {
		return placement{}, fmt.Errorf("there is no context %q; agentflow context list shows those there are", name)
	}
	return at, nil
}

// contextNames lists them in order, as far as they can be read: for completion.
func (p *process) contextNames() []string {
	kept, err := p.contexts()
	if err != nil {
		return nil
	}
	names := make([]string, 0, len(kept.Contexts))
	for name := range kept.Contexts {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
