package redis

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseURL(t *testing.T) {
	t.Parallel()
	o, err := parseURL("redis://:pass@example.com/3")
	require.NoError(t, err)
	require.Equal(t, []string{"example.com:6379"}, o.Addrs)
	require.Equal(t, "pass", o.Password)
	require.Equal(t, 3, o.DB)
	require.Nil(t, o.TLSConfig)

	o, err = parseURL("rediss://user:pass@example.com:7000")
	require.NoError(t, err)
	require.Equal(t, "example.com", o.TLSConfig.ServerName)

	o, err = parseURL("unix:///run/redis.sock")
	require.NoError(t, err)
	require.Equal(t, []string{"/run/redis.sock"}, o.Addrs)
	require.NotNil(t, o.Dialer)

	o, err = parseURL("redis+sentinel://user:p%40ss@s1,s2:26380,[::1]:26381/mymaster/2?sentinel_user=su&sentinel_password=sp")
	require.NoError(t, err)
	require.Equal(t, []string{"s1:26379", "s2:26380", "[::1]:26381"}, o.Addrs)
	require.Equal(t, "mymaster", o.MasterName)
	require.Equal(t, 2, o.DB)
	require.Equal(t, []string{"user", "p@ss", "su", "sp"}, []string{o.Username, o.Password, o.SentinelUsername, o.SentinelPassword})
	require.False(t, o.IsClusterMode)

	o, err = parseURL("rediss+cluster://:pass@n1:7000,n2/")
	require.NoError(t, err)
	require.Equal(t, []string{"n1:7000", "n2:6379"}, o.Addrs)
	require.Equal(t, "pass", o.Password)
	require.True(t, o.IsClusterMode)
	require.Empty(t, o.TLSConfig.ServerName, "each node's own")
}

func TestRefusedURLs(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"":                                       "begins with",
		"localhost:6379":                         "begins with",
		"http://localhost":                       "http://",
		"redis+proxy://localhost":                "redis+proxy://",
		"redis://:secret@host:port":              "parse the Redis URL",
		"redis://:secret@host/db":                "database",
		"redis+sentinel://:secret@s1":            "master",
		"redis+sentinel://:secret@s1/m/x":        "database number",
		"redis+sentinel://:secret@s1/m?x=1":      "no parameter",
		"redis+cluster://:secret@n1/1":           "database 0",
		"redis+cluster://:secret@":               "no host",
		"redis+cluster://:secret@n1,":            "no host",
		"redis+cluster://:secret@n1:99999":       "no host",
		"redis+cluster://:secret%zz@n1":          "escaped",
		"redis+sentinel://:secret@s1/m?a=%zz":    "escaped",
		"redis+cluster://:secret@n1:1,n2:secret": "no host",
	} {
		err := CheckURL(url)
		require.ErrorContains(t, err, want, url)
		if url != "redis+cluster://:secret@n1:1,n2:secret" {
			require.NotContains(t, err.Error(), "secret", "a password in an error")
		}
	}
}
