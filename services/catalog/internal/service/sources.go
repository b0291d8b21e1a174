package service

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"

	"github.com/agentflow/agentflow/pkg/credential"
	"github.com/agentflow/agentflow/pkg/protocol"
	"github.com/agentflow/agentflow/pkg/workflow"
)

// sourceName is what people may call a source: it stands in workflows, URLs and log lines.
var sourceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$`)

// maxConfig bounds the configuration of a source, in bytes.
const maxConfig = 32 << 10

// sourceID takes the id that the command brings, or makes one.
func sourceID(c protocol.Command) (string, error) {
	in, err := data[protocol.CreateSource](c)
	if err != nil {
		return "", err
	}
	if in.ID == "" {
		return derivedID("src", c), nil
	}
	if !sourceName.MatchString(in.ID) {
		return "", refuse(protocol.CodeInvalid, "id", "id must have 1 to 100 letters, digits, '_', '-', '.' or ':', and begin with a letter or digit")
	}
	return in.ID, nil
}

func createSource(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.CreateSource](r.cmd)
	if err != nil {
		return nil, err
	}
	if err := r.checkTenant(); err != nil {
		return nil, err
	}
	in.ID = r.id
	if in.Config == nil {
		in.Config = map[string]any{}
	}
	if err := checkSource(in.Source, in.Name); err != nil {
		return nil, err
	}
	if r.exists() {
		if !in.Replace {
			return nil, refuse(protocol.CodeConflict, "id", "source "+quote(r.id)+" exists already")
		}
		src, err := document[protocol.KeptSource](ctx, s, r)
		if err != nil {
			return nil, err
		}
		return replaceSource(ctx, s, r, src, in.Source, in.Name)
	}
	version := 1
	if r.last.Type != "" {
		// A source of this id was deleted: its versions go on, so that an ETag never means two things.
		var deleted protocol.KeptSource
		if err := unmarshal(r.last.Document, &deleted); err != nil {
			return nil, err
		}
		version = deleted.Version + 1
	}
	return &decision{"source_created.v1", protocol.KeptSource{
		Source: in.Source, Name: in.Name, Tenant: r.cmd.Tenant, Version: version, Status: protocol.SourceActive,
		CreatedAt: r.at, CreatedBy: r.cmd.Actor, UpdatedAt: r.at, UpdatedBy: r.cmd.Actor,
	}}, nil
}

func updateSource(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.UpdateSource](r.cmd)
	if err != nil {
		return nil, err
	}
	if err := r.checkTenant(); err != nil {
		return nil, err
	}
	src, err := document[protocol.KeptSource](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.IfMatch, src.Version); err != nil {
		return nil, err
	}
	next, name := src.Source, src.Name
	if in.Kind != nil {
		next.Kind = *in.Kind
	}
	if in.Config != nil {
		next.Config = in.Config
	}
	if in.Name != nil {
		name = *in.Name
	}
	if err := checkSource(next, name); err != nil {
		return nil, err
	}
	return replaceSource(ctx, s, r, src, next, name)
}

// replaceSource changes a source, unless that would break the workflows that use it.
func replaceSource(ctx context.Context, s *Service, r *room, src protocol.KeptSource, next workflow.Source, name string) (*decision, error) {
	if next.Kind != src.Kind {
		use, err := s.usersOf(ctx, r)
		if err != nil {
			return nil, err
		}
		if use.Total > 0 {
			return nil, inUse(r.id, use, "cannot change its kind")
		}
	}
	before, err := json.Marshal(src.Config)
	if err != nil {
		return nil, err
	}
	after, err := json.Marshal(next.Config)
	if err != nil {
		return nil, err
	}
	if next.Kind == src.Kind && name == src.Name && string(before) == string(after) {
		return nil, nil //nolint:nilnil // the source is what was asked for
	}
	src.Source, src.Name = next, name
	src.Version++
	src.UpdatedAt, src.UpdatedBy = r.at, r.cmd.Actor
	return &decision{"source_updated.v1", src}, nil
}

func deleteSource(ctx context.Context, s *Service, r *room) (*decision, error) {
	in, err := data[protocol.DeleteSource](r.cmd)
	if err != nil {
		return nil, err
	}
	src, err := document[protocol.KeptSource](ctx, s, r)
	if err != nil {
		return nil, err
	}
	if err := checkVersion(in.IfMatch, src.Version); err != nil {
		return nil, err
	}
	use, err := s.usersOf(ctx, r)
	if err != nil {
		return nil, err
	}
	if use.Total > 0 {
		return nil, inUse(r.id, use, "cannot be deleted")
	}
	src.Status, src.DeletedAt, src.DeletedBy = protocol.SourceDeleted, r.at, r.cmd.Actor
	src.UpdatedAt, src.UpdatedBy = r.at, r.cmd.Actor
	return &decision{"source_deleted.v1", src}, nil
}

// usersOf tells which workflows name the source that is locked. A workflow whose command ended between the log and the
// tables, and gave its hold on the source back, is among them: the tables first take what the log has by now, and whoever
// names the source from here on waits for the lock.
func (s *Service) usersOf(ctx context.Context, r *room) (protocol.InUse, error) {
	wait, cancel := context.WithTimeout(ctx, lockedPatience)
	defer cancel()
	if err := s.AwaitTables(wait, []string{protocol.StreamCatalog}); err != nil {
		return protocol.InUse{}, err
	}
	return r.tx.UsersOf(ctx, r.cmd.Tenant, r.id)
}

func inUse(id string, use protocol.InUse, what string) error {
	const shown = 5
	var names []string
	for _, w := range use.Workflows[:min(shown, len(use.Workflows))] {
		names = append(names, quote(w.Name)+" ("+w.ID+")")
	}
	users := strings.Join(names, ", ")
	if use.Total > shown {
		users += fmt.Sprintf(" and %d more", use.Total-shown)
	}
	return &protocol.Error{
		Code: protocol.CodeConflict, Details: use,
		Message: fmt.Sprintf("source %s %s: it is used by %s", quote(id), what, users),
	}
}

// checkSource refuses a source whose kind or config is wrong, or that holds a secret. Everything
// that is wrong stands in the details.
func checkSource(src workflow.Source, name string) error {
	if err := checkText("name", name, maxName); err != nil {
		return err
	}
	raw, err := json.Marshal(src.Config)
	if err != nil {
		return refuse(protocol.CodeInvalid, "config", "config must be JSON")
	}
	switch {
	case len(raw) > maxConfig:
		return refuse(protocol.CodeTooLarge, "config", fmt.Sprintf("config must have at most %d bytes", maxConfig))
	case holdsNull(raw):
		return refuse(protocol.CodeInvalid, "config", "config must not hold the character U+0000")
	}
	var problems []workflow.Problem
	for _, f := range credential.Check("config", src.Config) {
		problems = append(problems, workflow.NewProblem(workflow.ProblemMetadataInvalid, "", f.Field, "%s %s", f.Field, f.Message))
	}
	workflow.CheckSource(src, "", func(p workflow.Problem) {
		p.Field = trimDot(p.Field)
		problems = append(problems, p)
	})
	if len(problems) == 0 {
		return nil
	}
	message := problems[0].Message
	if n := len(problems); n > 1 {
		message += fmt.Sprintf(" (and %d more)", n-1)
	}
	return &protocol.Error{Code: protocol.CodeInvalid, Field: problems[0].Field, Message: message, Details: map[string]any{"errors": problems}}
}

// trimDot takes off the dot that stands behind an empty prefix.
func trimDot(field string) string {
	if field != "" && field[0] == '.' {
		return field[1:]
	}
	return field
}
