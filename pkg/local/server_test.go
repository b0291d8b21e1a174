package local

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"
)

// A script that fails once, as the servers do, and then comes up.
const failsOnce = `
if mkdir failed; then echo "$0"; exit 1; fi
touch up
while :; do sleep 0.05; done`

func TestLaunchTriesAgain(t *testing.T) {
	const (
		orphans = `FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use`
		taken   = `could not bind: Address already in use`
	)
	for name, test := range map[string]struct {
		words         string
		pinned, older bool
		want          error
	}{
		"while orphans end":                    {words: orphans, pinned: true},
		"with another port":                    {words: taken},
		"with its old port":                    {words: taken, pinned: true, older: true},
		"not with a port that was asked for":   {words: taken, pinned: true, want: errPortTaken},
		"not after a failure of another sort":  {words: "FATAL:  no", want: errors.New("no")},
		"not after a failure without any word": {want: errors.New("exit status 1")},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			s := &server{name: "sh", dir: dir, polite: syscall.SIGTERM, firm: syscall.SIGKILL, port: lowestPort - 1, pinned: test.pinned}
			if test.older {
				s.child = &child{}
			}
			var ports []int
			err := s.launch(t.Context(), func(port int) (command, error) {
				ports = append(ports, port)
				return command{
					path: "/bin/sh", args: []string{"-c", failsOnce, test.words}, dir: dir, output: newOutput(zap.NewNop(), redisLevel),
				}, nil
			}, func(context.Context, *child) bool {
				_, err := os.Stat(filepath.Join(dir, "up"))
				return err == nil
			})
			if test.want != nil {
				require.ErrorContains(t, err, test.want.Error())
				require.Len(t, ports, 1)
				return
			}
			require.NoError(t, err)
			require.Len(t, ports, 2)
			require.Equal(t, test.pinned, ports[0] == ports[1])
			require.Equal(t, s.port, rememberedPort(dir))
			require.NoError(t, s.halt(t.Context()))
		})
	}
}

func TestFreePortIsFree(t *testing.T) {
	port, err := FreePort(t.Context())
	require.NoError(t, err)
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	require.NoError(t, err)
	require.False(t, portFree(t.Context(), port))
	require.NoError(t, listener.Close())
}
