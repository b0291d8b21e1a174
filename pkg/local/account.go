package local

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"
)

// account is the user a child runs as.
type account struct {
	name     string
	uid, gid uint32
}

// postgresAccount is nil when we are not root. For root it is the owner of the cluster if there is one (it may have
// been made by a start without sudo), else the user "postgres" that a package has brought, else "nobody".
func postgresAccount(cluster string) (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil //nolint:nilnil // no account: run as ourselves
	}
	if info, err := os.Stat(cluster); err == nil {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if ok && stat.Uid != 0 {
			return &account{name: "uid " + strconv.Itoa(int(stat.Uid)), uid: stat.Uid, gid: stat.Gid}, nil
		}
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(errUID, errGID); err != nil {
			return nil, fmt.Errorf("ids of user %s: %w", name, err)
		}
		return &account{name: name, uid: uint32(uid), gid: uint32(gid)}, nil
	}
	return nil, errors.New("Postgres refuses to run as root and there is neither a user postgres nor nobody: " +
		"make one (useradd --system postgres) or run agentflow as an ordinary user")
}

// own gives files to the account; nil leaves them ours.
func (a *account) own(paths ...string) error {
	if a == nil {
		return nil
	}
	for _, path := range paths {
		if err := os.Lchown(path, int(a.uid), int(a.gid)); err != nil {
			return err
		}
	}
	return nil
}
