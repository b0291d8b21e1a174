package api

import (
	"bytes"
	"compress/gzip"
	"embed"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/gofiber/fiber/v2"
	"github.com/swaggest/swgui/v5/static"
)

// The readers of the document stand in the binary: nothing is fetched from anywhere else, which
// the pages' own security policy makes sure of.

//go:embed assets/redoc.standalone.js
var redocFiles embed.FS

const (
	docsPolicy = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; " +
		"font-src 'self' data:; connect-src 'self'; worker-src blob:; child-src blob:; frame-ancestors 'none'; base-uri 'none'"

	swaggerPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>AgentFlow API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"></head>
<body><div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script><script src="/docs/start.js"></script></body></html>
`
	swaggerStart = `SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true, persistAuthorization: true, validatorUrl: null});
`
	redocPage = `<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>AgentFlow API</title></head>
<body style="margin:0"><div id="redoc"></div>
<script src="/redoc/redoc.standalone.js"></script><script src="/redoc/start.js"></script></body></html>
`
	redocStart = `Redoc.init("/openapi.json", {disableSearch: false, nativeScrollbars: true}, document.getElementById("redoc"));
`
)

// asset is one file of a page, compressed.
type asset struct {
	media   string
	gzipped []byte
}

// loadAssets reads the files of the pages. They are in the binary, so an error is a mistake of the
// build.
func loadAssets() (map[string]asset, error) {
	assets := map[string]asset{}
	for address, text := range map[string]string{
		"/docs": swaggerPage, "/docs/start.js": swaggerStart, "/redoc": redocPage, "/redoc/start.js": redocStart,
	} {
		packed, err := pack([]byte(text))
		if err != nil {
			return nil, err
		}
		assets[address] = asset{mediaOf(address), packed}
	}
	for _, name := range []string{"swagger-ui.css", "swagger-ui-bundle.js"} {
		packed, err := static.FS.ReadFile(name + ".gz")
		if err != nil {
			return nil, fmt.Errorf("read assets: %w", err)
		}
		assets["/docs/"+name] = asset{mediaOf(name), packed}
	}
	script, err := fs.ReadFile(redocFiles, "assets/redoc.standalone.js")
	if err != nil {
		return nil, fmt.Errorf("read assets: %w", err)
	}
	packed, err := pack(script)
	if err != nil {
		return nil, err
	}
	assets["/redoc/redoc.standalone.js"] = asset{mediaOf(".js"), packed}
	return assets, nil
}

func mediaOf(name string) string {
	switch {
	case strings.HasSuffix(name, ".js"):
		return "text/javascript; charset=utf-8"
	case strings.HasSuffix(name, ".css"):
		return "text/css; charset=utf-8"
	}
	return fiber.MIMETextHTMLCharsetUTF8
}

func pack(plain []byte) ([]byte, error) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("pack assets: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("pack assets: %w", err)
	}
	return b.Bytes(), nil
}

// send answers with the file, unpacked for the few who cannot.
func (a asset) send(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, a.media)
	c.Set(fiber.HeaderContentSecurityPolicy, docsPolicy)
	c.Set(fiber.HeaderCacheControl, "public, max-age=3600")
	c.Set(fiber.HeaderVary, fiber.HeaderAcceptEncoding)
	if strings.Contains(c.Get(fiber.HeaderAcceptEncoding), "gzip") {
		c.Set(fiber.HeaderContentEncoding, "gzip")
		c.Response().SetBodyRaw(a.gzipped)
		return nil
	}
	r, err := gzip.NewReader(bytes.NewReader(a.gzipped))
	if err != nil {
		return fmt.Errorf("unpack asset: %w", err)
	}
	plain, err := io.ReadAll(r)
	if err != nil {
		return fmt.Errorf("unpack asset: %w", err)
	}
	c.Response().SetBodyRaw(plain)
	return nil
}
