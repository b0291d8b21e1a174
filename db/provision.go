package db

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/lib/pq"
)

// ServiceRole is the login of the catalog service, unless Access names another.
const ServiceRole = "agentflow_service"

// The roles that a login takes on for one transaction; the migrations make them.
const (
	TenantRole   = "agentflow_tenant"
	PlatformRole = "agentflow_platform"
)

// Access says how the catalog service logs in.
type Access struct {
	Role     string // "" means ServiceRole
	Password string // "" derives one from the administrator's, the same each time
}

// Provision makes the service's login, or brings it in order, and returns the URL with it. The
// login owns nothing, has no right of its own, and cannot pass by row level security: its sessions
// begin as TenantRole, and it may become PlatformRole. Call it after Migrate. Several processes may
// call it at once.
func Provision(ctx context.Context, adminURL string, a Access) (string, error) {
	if a.Role == "" {
		a.Role = ServiceRole
	}
	service, err := provision(ctx, adminURL, a)
	if err != nil {
		return "", fmt.Errorf("provision login %s: %w", a.Role, plain(err))
	}
	return service, nil
}

func provision(ctx context.Context, adminURL string, a Access) (service string, err error) {
	u, pool, err := open(ctx, adminURL)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	if a.Password == "" {
		if password, _ := u.User.Password(); password == "" {
			return "", errors.New("the administrator's URL holds no password to derive the service's from; choose one for the service")
		}
		a.Password = derive(u, a.Role)
	}
	if u.User.Username() == a.Role {
		return "", errors.New("the administrator's login cannot be the service's")
	}
	normal, err := Normalize(adminURL)
	if err != nil {
		return "", err
	}
	su, err := url.Parse(normal)
	if err != nil {
		return "", errors.New("the database URL cannot be read")
	}
	su.User = url.UserPassword(a.Role, a.Password)
	service = su.String()

	// Roles belong to the whole server: another database may be provisioning the same login now.
	for try := 0; ; try++ {
		err = ensureLogin(ctx, pool, service, a)
		var perr *pq.Error
		if err == nil || try == 20 || !errors.As(err, &perr) || !strings.Contains(perr.Message, "concurrently updated") && perr.Code != "23505" && perr.Code != "42710" {
			break
		}
		select {
		case <-ctx.Done():
			return "", ctx.Err()
		case <-time.After(time.Duration(try+1) * 10 * time.Millisecond):
		}
	}
	if err != nil {
		return "", err
	}
	return service, nil
}

func ensureLogin(ctx context.Context, pool *sql.DB, service string, a Access) error {
	role := pq.QuoteIdentifier(a.Role)
	var exists, proper, member bool
	err := pool.QueryRowContext(ctx, `
		select count(*) = 1,
		       coalesce(bool_and(rolcanlogin and not (rolsuper or rolbypassrls or rolcreatedb or rolcreaterole or rolinherit or rolreplication)), false)
		from pg_roles where rolname = $1`, a.Role).Scan(&exists, &proper)
	if err != nil {
		return err
	}
	const attributes = " login nosuperuser nobypassrls nocreatedb nocreaterole noinherit noreplication "
	attributesFor := attributes
	var super bool
	if err := pool.QueryRowContext(ctx, "select rolsuper from pg_roles where rolname = current_user").Scan(&super); err != nil {
		return err
	}
	if !super {
		attributesFor = " login nocreatedb nocreaterole noinherit " // only a superuser may name the others, even to refuse them
	}
	switch {
	case !exists:
		if _, err := pool.ExecContext(ctx, "create role "+role+attributesFor+"password "+pq.QuoteLiteral(a.Password)); err != nil {
			return err
		}
	case !proper || !logsIn(ctx, service):
		if _, err := pool.ExecContext(ctx, "alter role "+role+attributesFor+"password "+pq.QuoteLiteral(a.Password)); err != nil {
			return err
		}
	}
	err = pool.QueryRowContext(ctx, "select pg_has_role($1, $2, 'member') and pg_has_role($1, $3, 'member')",
		a.Role, TenantRole, PlatformRole).Scan(&member)
	if err != nil {
		return err
	}
	if !member {
		if _, err := pool.ExecContext(ctx, "grant "+TenantRole+", "+PlatformRole+" to "+role); err != nil {
			return err
		}
	}
	if err := ensureDefaults(ctx, pool, a.Role); err != nil {
		return err
	}
	var connect bool
	if err := pool.QueryRowContext(ctx, "select has_database_privilege($1, current_database(), 'connect')", a.Role).Scan(&connect); err != nil {
		return err
	}
	if connect {
		return nil
	}
	_, err = pool.ExecContext(ctx, `do $$ begin execute format('grant connect on database %I to `+strings.ReplaceAll(role, "%", "%%")+`', current_database()); end $$`)
	return err
}

// ensureDefaults makes every session of the login begin as TenantRole, in the schema: whoever looks
// at the tables with it, say with psql, names a tenant and sees that tenant's rows. The service
// itself takes on its role in each transaction.
func ensureDefaults(ctx context.Context, pool *sql.DB, role string) error {
	for _, set := range [][2]string{{"role", TenantRole}, {"search_path", Schema}} {
		var stands bool
		err := pool.QueryRowContext(ctx, "select coalesce($2 = any (rolconfig), false) from pg_roles where rolname = $1",
			role, set[0]+"="+set[1]).Scan(&stands)
		if err != nil {
			return err
		}
		if stands {
			continue
		}
		if _, err := pool.ExecContext(ctx, "alter role "+pq.QuoteIdentifier(role)+" set "+set[0]+" = "+pq.QuoteIdentifier(set[1])); err != nil {
			return err
		}
	}
	return nil
}

// logsIn tells whether the login works with the password it should have.
func logsIn(ctx context.Context, service string) bool {
	_, pool, err := open(ctx, service)
	if err != nil {
		return false
	}
	return pool.Close() == nil
}

// derive makes a password that whoever knows the administrator's can make again, and from which
// the administrator's cannot be found.
func derive(admin *url.URL, role string) string {
	password, _ := admin.User.Password()
	mac := hmac.New(sha256.New, []byte("agentflow login "+password))
	mac.Write([]byte(role))
	return hex.EncodeToString(mac.Sum(nil))
}

// CanBypass tells whether the login of a URL could pass by row level security, so that the
// service must not work with it: a superuser, a role with BYPASSRLS, or the owner of the schema.
func CanBypass(ctx context.Context, databaseURL string) (can bool, err error) {
	_, pool, err := open(ctx, databaseURL)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, pool.Close()) }()
	err = pool.QueryRowContext(ctx, `
		select r.rolsuper or r.rolbypassrls
		       or has_database_privilege(session_user, current_database(), 'create')
		       or exists (select from pg_namespace n where n.nspname = $1 and pg_has_role(session_user, n.nspowner, 'usage'))
		from pg_roles r where r.rolname = session_user -- the login, whatever its session has become`, Schema).Scan(&can)
	if err != nil {
		return false, fmt.Errorf("look at the login's rights: %w", err)
	}
	return can, nil
}
