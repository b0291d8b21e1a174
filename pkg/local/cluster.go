package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"

	"go.uber.org/zap"
)

// prepare finds the programs and makes the cluster if there is none.
func (p *Postgres) prepare(ctx context.Context) error {
	var err error
	if p.major, err = clusterVersion(p.cluster()); err != nil {
		return err
	}
	if p.programs == "" {
		if p.programs, err = p.find(ctx, p.major); err != nil {
			return err
		}
	}
	if p.account, err = postgresAccount(p.cluster()); err != nil {
		return err
	}
	if p.major == "" {
		if err := p.make(ctx); err != nil {
			return err
		}
		if p.major, err = clusterVersion(p.cluster()); err != nil {
			return err
		}
	}
	if p.password == "" {
		p.password, err = password(p.options.Dir)
	}
	return err
}

func (p *Postgres) find(ctx context.Context, major string) (programs, error) {
	found, err := findPostgres(ctx, postgresFolders(ctx), major)
	if errors.Is(err, ErrNoPostgres) && p.options.Download {
		return downloadPostgres(ctx, p.server.log, mavenCentral, major)
	}
	return found, err
}

// clusterVersion is the major version that made the cluster, or "" if there is none.
func clusterVersion(cluster string) (string, error) {
	text, err := os.ReadFile(filepath.Join(cluster, "PG_VERSION"))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("read the cluster's version: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

// make builds the cluster beside its place and moves it there when it is whole: a start that dies on the way leaves
// nothing that the next one would take for a cluster.
func (p *Postgres) make(ctx context.Context) error {
	building := p.cluster() + ".new"
	if err := os.RemoveAll(building); err != nil {
		return err
	}
	build := p.initialise
	if p.options.Template != "" {
		build = p.copyTemplate
	}
	if err := build(ctx, building); err != nil {
		return err
	}
	return os.Rename(building, p.cluster())
}

func (p *Postgres) initialise(ctx context.Context, building string) error {
	p.server.log.Info("making a new cluster", zap.String("dir", p.options.Dir), zap.String("programs", string(p.programs)))
	var err error
	if p.password, err = password(p.options.Dir); err != nil {
		return err
	}
	if err := os.Mkdir(building, 0o700); err != nil {
		return err
	}
	if err := p.account.own(building); err != nil {
		return err
	}
	// The whole locale is C, fast and the same everywhere, but letters beyond ASCII should have upper and lower case.
	// Not every system has that locale under this name.
	err = p.initdb(ctx, building, "--lc-ctype=C.UTF-8")
	if err != nil && ctx.Err() == nil {
		err = p.initdb(ctx, building)
	}
	if err != nil || p.options.Fast {
		return err
	}
	return syncFolder(building)
}

func (p *Postgres) initdb(ctx context.Context, building string, extra ...string) error {
	secret, err := p.secretFile()
	if err != nil {
		return fmt.Errorf("hand the password to initdb: %w", err)
	}
	defer func() { _ = errors.Join(secret.Close(), os.Remove(secret.Name())) }() // the next start replaces it
	folder, err := os.Open(building)
	if err != nil {
		return err
	}
	defer func() { _ = folder.Close() }() // only lent to the child

	c := command{
		path: p.programs.path("initdb"), dir: "/", account: p.account, dieWith: syscall.SIGKILL,
		output: newOutput(p.server.log, postgresLevel),
	}
	data, secretPath := building, secret.Name()
	if p.account != nil {
		c.files = []*os.File{folder, secret}
		data, secretPath = handoff(data, firstFile), handoff(secretPath, firstFile+1)
	}
	c.args = []string{
		"--pgdata=" + data, "--username=" + superuser, "--pwfile=" + secretPath, "--auth=scram-sha-256",
		"--encoding=UTF8", "--locale=C", "--no-instructions",
	}
	c.args = append(c.args, extra...)
	if p.options.Fast {
		c.args = append(c.args, "--no-sync")
	} else {
		c.args = append(c.args, initdbSync...)
	}
	child, err := startChild(ctx, c)
	if err != nil {
		return err
	}
	select {
	case <-child.done:
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("initdb was not done in time: %w", context.Cause(ctx)), child.kill())
	}
	if child.err != nil {
		return child.failure("initdb")
	}
	return nil
}

// secretFile holds the password for initdb's eyes: our own file is not readable for the account.
func (p *Postgres) secretFile() (*os.File, error) {
	path := filepath.Join(p.options.Dir, "initdb.password")
	if err := replaceFile(path, p.password+"\n"); err != nil {
		return nil, err
	}
	if err := p.account.own(path); err != nil {
		return nil, err
	}
	return os.Open(path)
}

// copyTemplate takes the cluster and its password from the template's folder, making the template first if need be.
// Whoever makes it holds the folder's lock; the others wait.
func (p *Postgres) copyTemplate(ctx context.Context, building string) error {
	major, err := p.programs.major(ctx)
	if err != nil {
		return err
	}
	source := &Postgres{options: p.options, programs: p.programs}
	source.options.Dir, source.options.Template = filepath.Join(p.options.Template, "postgres-"+major), ""
	source.server = server{name: "postgres", dir: source.options.Dir, log: p.server.log}
	if err := source.server.waitFor(ctx); err != nil {
		return fmt.Errorf("use the template: %w", err)
	}
	defer func() { _ = source.server.release() }() // freed by the kernel at the latest
	if err := source.prepare(ctx); err != nil {
		return fmt.Errorf("make the template: %w", err)
	}
	// cp keeps owners and modes, which Postgres is particular about.
	//nolint:gosec // both folders are ours
	if out, err := exec.CommandContext(ctx, "cp", "-a", source.cluster(), building).CombinedOutput(); err != nil {
		return fmt.Errorf("copy the template: %w: %s", err, out)
	}
	p.password = source.password
	return replaceFile(filepath.Join(p.options.Dir, "password"), source.password+"\n")
}
