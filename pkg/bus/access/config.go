package access

import (
	"fmt"
	"io"
	"strings"

	"github.com/nats-io/nkeys"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// User is one line of the account: who, by which public key, and what for.
type User struct {
	Name        string
	Key         string // public nkey, "U…"
	Permissions Permissions
}

// WriteUsers writes the account of the platform as a part of the server's configuration.
func WriteUsers(w io.Writer, users []User) error {
	var b strings.Builder
	b.WriteString("# Who may say what. Written by `credentials`; it writes it anew at every start, so do not edit.\n")
	b.WriteString("accounts {\n  AGENTFLOW {\n    jetstream: enabled\n    users: [\n")
	for _, u := range users {
		if !nkeys.IsValidPublicUserKey(u.Key) {
			return fmt.Errorf("user %s: %q is no public key of a user", u.Name, u.Key)
		}
		fmt.Fprintf(&b, "      # %s\n      { nkey: %s, permissions: {\n", u.Name, u.Key)
		writeSide(&b, "publish", u.Permissions.Publish, u.Permissions.Refused)
		writeSide(&b, "subscribe", u.Permissions.Subscribe, nil)
		if u.Permissions.Responses {
			b.WriteString("        allow_responses: true\n")
		}
		b.WriteString("      } }\n")
	}
	b.WriteString("    ]\n  }\n}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// writeSide writes what is allowed. Nothing at all must be said by name: the server takes silence for everything.
func writeSide(b *strings.Builder, side string, allowed, refused []string) {
	switch {
	case len(allowed) == 0:
		fmt.Fprintf(b, "        %s: { deny: \">\" }\n", side)
	case len(refused) == 0:
		fmt.Fprintf(b, "        %s: { allow: %s }\n", side, quoted(allowed))
	default:
		fmt.Fprintf(b, "        %s: { allow: %s, deny: %s }\n", side, quoted(allowed), quoted(refused))
	}
}

// users are the services, the administrator and the tenants' integrations, with the keys given.
func users(partitions int, tenants []protocol.TenantID, key func(Role) (string, error)) ([]User, error) {
	var out []User
	add := func(r Role, p Permissions) error {
		public, err := key(r)
		if err != nil {
			return fmt.Errorf("key of %s: %w", r, err)
		}
		out = append(out, User{Name: string(r), Key: public, Permissions: p})
		return nil
	}
	for _, r := range append(Services(), Admin) {
		if err := add(r, Of(r, partitions)); err != nil {
			return nil, err
		}
	}
	for _, t := range tenants {
		if err := t.Check(); err != nil {
			return nil, err
		}
		if err := add(TenantRole(t), OfTenant(t)); err != nil {
			return nil, err
		}
	}
	return out, nil
}
