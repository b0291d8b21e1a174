// Command credentials makes the secrets of an installation: the keys of the NATS users and their rules, certificates,
// passwords, the admin key. Each service gets a folder of its own with what it needs, to be mounted into it alone.
//
// It may run at every start: what is there stays, and the rules of the NATS users are written anew.
package main

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agentflow/agentflow/pkg/bus/access"
	"github.com/agentflow/agentflow/pkg/protocol"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "credentials:", err)
		os.Exit(1) //nolint:forbidigo // this is main
	}
}

// options of the command line.
type options struct {
	out        string
	own        []string // folders given to the owner, such as a volume of data
	owner      string   // uid:gid; "" leaves files to who runs this
	hosts      []string
	tenants    []string
	partitions int
	postgres   string // "" keeps an address that is there
	redis      string // the same
	show       string
}

func run(args []string, stdout io.Writer) error {
	var o options
	flags := flag.NewFlagSet("credentials", flag.ContinueOnError)
	list := func(into *[]string) func(string) error {
		return func(v string) error { *into = append(*into, v); return nil }
	}
	flags.StringVar(&o.out, "out", "keys", "folder that is filled")
	flags.StringVar(&o.owner, "owner", "", "uid:gid that files and folders are given to; empty: whoever runs this")
	flags.Func("own", "folder that is given to the owner too, such as a volume of data; may be repeated", list(&o.own))
	flags.Func("host", "name or address of the NATS servers; may be repeated", list(&o.hosts))
	flags.Func("tenant", "tenant with a NATS user that listens to its events; may be repeated", list(&o.tenants))
	flags.IntVar(&o.partitions, "partitions", protocol.DefaultParts, "EXECUTION_PARTITIONS of the services")
	flags.StringVar(&o.postgres, "postgres", "", "host and port of Postgres, as the services reach it; empty: the URLs that are there, else postgres:5432")
	flags.StringVar(&o.redis, "redis", "", "host and port of Redis, as the services reach it; empty: the URL that is there, else redis:6379")
	flags.StringVar(&o.show, "show", "", "print one of the files, such as gateway/admin-key, and do nothing else")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if o.show != "" {
		content, err := fs.ReadFile(os.DirFS(o.out), o.show)
		if err != nil {
			return err
		}
		_, err = stdout.Write(content)
		return err
	}
	if err := prepare(o); err != nil {
		return err
	}
	_, err := fmt.Fprintln(stdout, "credentials: ready in", o.out)
	return err
}

func prepare(o options) error {
	var tenants []protocol.TenantID
	for _, t := range o.tenants {
		tenants = append(tenants, protocol.TenantID(t))
	}
	if err := access.Prepare(o.out, access.Options{Partitions: o.partitions, Tenants: tenants, Hosts: o.hosts}); err != nil {
		return err
	}
	if err := passwords(o); err != nil {
		return err
	}
	if o.owner == "" {
		return nil
	}
	uid, gid, err := identity(o.owner)
	if err != nil {
		return err
	}
	for _, dir := range append(o.own, o.out) {
		if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			return os.Lchown(path, uid, gid) //nolint:gosec // nobody else has the folders yet
		}); err != nil {
			return err
		}
	}
	return nil
}

// passwords writes the secrets of the stores, in the form in which each reader takes them.
func passwords(o options) error {
	owner, err := secret(o.out, "postgres/password")
	if err != nil {
		return err
	}
	service, err := secret(o.out, "migrate/service-password")
	if err != nil {
		return err
	}
	redis, err := secret(o.out, "redis/password")
	if err != nil {
		return err
	}
	if _, err := secret(o.out, "gateway/admin-key"); err != nil {
		return err
	}
	// The network of the database is its own; set DATABASE_URL yourself for one elsewhere, with sslmode=verify-full.
	database := func(user, password string) string {
		return fmt.Sprintf("postgres://%s:%s@%s/agentflow?sslmode=disable", user, password, cmp.Or(o.postgres, "postgres:5432"))
	}
	return errors.Join(
		address(o.out, "migrate/database-url", database("agentflow", owner), o.postgres),
		address(o.out, "catalog/database-url", database("agentflow_service", service), o.postgres),
		address(o.out, "limiter/redis-url", fmt.Sprintf("redis://:%s@%s/0", redis, cmp.Or(o.redis, "redis:6379")), o.redis),
		write(o.out, "redis/redis.conf", "requirepass "+redis),
	)
}

// address writes the URL of a store. One that is there stays when no host was asked for: somebody has put that of a store
// elsewhere, and runs this again for a certificate.
func address(dir, name, url, host string) error {
	if host == "" {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return write(dir, name, url)
}

// secret reads a random secret, and makes it when it is not there.
func secret(dir, name string) (string, error) {
	content, err := os.ReadFile(filepath.Join(dir, name))
	if err == nil {
		return strings.TrimSpace(string(content)), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	raw := make([]byte, 32)
	if _, err := rand.Read(raw); err != nil {
		return "", err
	}
	value := hex.EncodeToString(raw)
	return value, write(dir, name, value)
}

// write replaces a file. Each folder is mounted into one container, whose user may be another one than ours: readable is
// right inside it.
func write(dir, name, content string) error {
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // see above
		return err
	}
	// By way of a new file: who reads meanwhile sees the old or the new one, whole.
	next := path + ".new"
	if err := os.WriteFile(next, []byte(content+"\n"), 0o644); err != nil { //nolint:gosec // see above
		return err
	}
	return os.Rename(next, path)
}

func identity(owner string) (uid, gid int, err error) {
	u, g, ok := strings.Cut(owner, ":")
	if !ok {
		return 0, 0, fmt.Errorf("--owner %q: must be uid:gid", owner)
	}
	if uid, err = strconv.Atoi(u); err != nil {
		return 0, 0, fmt.Errorf("--owner %q: %w", owner, err)
	}
	if gid, err = strconv.Atoi(g); err != nil {
		return 0, 0, fmt.Errorf("--owner %q: %w", owner, err)
	}
	return uid, gid, nil
}
