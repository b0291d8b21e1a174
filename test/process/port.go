package process

import (
	"context"
	"net"
	"strconv"

	"github.com/agentflow/agentflow/pkg/local"
)

// FreeAddress is host:port of a port of loopback that nobody listens on, and that no outgoing connection is given.
func FreeAddress(ctx context.Context) (string, error) {
	port, err := local.FreePort(ctx)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}
