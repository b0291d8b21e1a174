package api

import (
	"time"

	"github.com/gofiber/fiber/v2"
)

const (
	// swallowMost bounds what is read of a body that is too large, and swallowFor the time for it.
	swallowMost = 32 << 20
	swallowFor  = 3 * time.Second
	swallowIdle = 200 * time.Millisecond
)

// swallow reads on where the server stopped reading. A client that is still sending when the
// connection is closed gets a reset instead of the answer; so its body, within reason, is taken
// off the wire first.
func swallow(c *fiber.Ctx) {
	conn := c.Context().Conn()
	if conn == nil {
		return
	}
	length := c.Request().Header.ContentLength() // negative when chunked
	var buffer [16 << 10]byte
	last := time.Now().Add(swallowFor)
	for read := 0; read < swallowMost && (length < 0 || read < length); {
		if time.Now().After(last) {
			break
		}
		if conn.SetReadDeadline(time.Now().Add(swallowIdle)) != nil {
			break
		}
		n, err := conn.Read(buffer[:])
		if err != nil {
			break
		}
		read += n
	}
}
