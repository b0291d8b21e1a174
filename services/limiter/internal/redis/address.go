package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

// CheckURL says what is wrong with a Redis URL, if anything. The forms are
//
//	redis://[user:password@]host[:6379][/db]
//	redis+sentinel://[user:password@]host[:26379][,host…]/master[/db]
//	redis+cluster://[user:password@]host[:6379][,host…]
//	unix:///path/to/socket
//
// and rediss… of the first three for TLS. A Sentinel of its own user takes
// ?sentinel_user=…&sentinel_password=….
func CheckURL(raw string) error {
	_, err := parseURL(raw)
	return err
}

// parseURL never repeats the URL in an error: it may hold a password.
func parseURL(raw string) (*goredis.UniversalOptions, error) {
	scheme, rest, ok := strings.Cut(raw, "://")
	if !ok {
		return nil, errors.New("a Redis URL begins with redis://, rediss://, redis+sentinel:// or redis+cluster://")
	}
	switch base, kind, _ := strings.Cut(scheme, "+"); {
	case scheme == "unix", scheme == "redis", scheme == "rediss":
		return single(raw)
	case base != "redis" && base != "rediss":
		return nil, fmt.Errorf("a Redis URL cannot begin with %s://", scheme)
	case kind == "sentinel":
		return sentinel(rest, base == "rediss")
	case kind == "cluster":
		return cluster(rest, base == "rediss")
	default:
		return nil, fmt.Errorf("a Redis URL cannot begin with %s://", scheme)
	}
}

func single(raw string) (*goredis.UniversalOptions, error) {
	o, err := goredis.ParseURL(raw)
	if err != nil {
		var parse *url.Error
		if errors.As(err, &parse) {
			err = parse.Err
		}
		return nil, fmt.Errorf("parse the Redis URL: %w", err)
	}
	u := &goredis.UniversalOptions{Addrs: []string{o.Addr}, Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLSConfig}
	if o.Network == "unix" {
		u.Dialer = unixDialer
	}
	return u, nil
}

func sentinel(rest string, secure bool) (*goredis.UniversalOptions, error) {
	u, err := several(rest, "26379", secure)
	if err != nil {
		return nil, err
	}
	master, db, _ := strings.Cut(u.path, "/")
	if master == "" {
		return nil, errors.New("a redis+sentinel:// URL names the master behind the hosts: /mymaster")
	}
	u.MasterName = master
	if db != "" {
		if u.DB, err = strconv.Atoi(db); err != nil || u.DB < 0 {
			return nil, fmt.Errorf("a redis+sentinel:// URL has a database number behind the master, not %q", db)
		}
	}
	for name, values := range u.query {
		switch name {
		case "sentinel_user":
			u.SentinelUsername = values[0]
		case "sentinel_password":
			u.SentinelPassword = values[0]
		default:
			return nil, fmt.Errorf("a redis+sentinel:// URL has no parameter %q", name)
		}
	}
	return u.UniversalOptions, nil
}

func cluster(rest string, secure bool) (*goredis.UniversalOptions, error) {
	u, err := several(rest, "6379", secure)
	if err != nil {
		return nil, err
	}
	if u.path != "" && u.path != "0" || len(u.query) > 0 {
		return nil, errors.New("a redis+cluster:// URL ends behind its hosts: a cluster has database 0 only")
	}
	u.IsClusterMode = true
	return u.UniversalOptions, nil
}

// address is what stands in a URL of several hosts.
type address struct {
	*goredis.UniversalOptions
	path  string
	query url.Values
}

// several reads [user:password@]host[:port][,host[:port]…][/path][?query], which net/url refuses
// for its several hosts.
func several(rest, port string, secure bool) (address, error) {
	rest, rawQuery, _ := strings.Cut(rest, "?")
	authority, path, _ := strings.Cut(rest, "/")
	out := address{UniversalOptions: &goredis.UniversalOptions{}, path: strings.TrimSuffix(path, "/")}
	var err error
	if out.query, err = url.ParseQuery(rawQuery); err != nil {
		return address{}, errors.New("the parameters of the Redis URL are not escaped as they should be")
	}
	hosts := authority
	if i := strings.LastIndexByte(authority, '@'); i >= 0 {
		user, password, _ := strings.Cut(authority[:i], ":")
		hosts = authority[i+1:]
		if out.Username, err = url.PathUnescape(user); err == nil {
			out.Password, err = url.PathUnescape(password)
		}
		if err != nil {
			return address{}, errors.New("user or password of the Redis URL are not escaped as they should be")
		}
	}
	for host := range strings.SplitSeq(hosts, ",") {
		name, number, err := net.SplitHostPort(host)
		if err != nil {
			name, number = strings.Trim(host, "[]"), port
		}
		if _, err := strconv.ParseUint(number, 10, 16); err != nil || name == "" {
			return address{}, fmt.Errorf("the Redis URL has no host in %q", host)
		}
		out.Addrs = append(out.Addrs, net.JoinHostPort(name, number))
	}
	if secure {
		// The host that is checked is each node's own: go-redis fills it in when there is none.
		out.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return out, nil
}

func unixDialer(ctx context.Context, _, path string) (net.Conn, error) {
	var d net.Dialer
	return d.DialContext(ctx, "unix", path)
}
