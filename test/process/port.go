package process

import (
	"net"
	"strconv"
)

// FreePort is a port of loopback that nobody listens on at the moment.
func FreePort() (int, error) {
	address, err := FreeAddress()
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

// FreeAddress is host:port of such a port.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer func() { _ = l.Close() }() // nobody has connected
	return l.Addr().String(), nil
}
