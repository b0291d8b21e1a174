package egress

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"strings"
)

// isTLS tells whether the error comes from the TLS handshake.
func isTLS(err error) bool {
	var record tls.RecordHeaderError
	var verify *tls.CertificateVerificationError
	var alert tls.AlertError
	var unknown x509.UnknownAuthorityError
	var host x509.HostnameError
	var invalid x509.CertificateInvalidError
	if errors.As(err, &record) || errors.As(err, &verify) || errors.As(err, &alert) ||
		errors.As(err, &unknown) || errors.As(err, &host) || errors.As(err, &invalid) {
		return true
	}
	// net/http and the database drivers flatten some of these into text.
	text := err.Error()
	return strings.Contains(text, "TLS handshake") || strings.Contains(text, "tls: ") ||
		strings.Contains(text, "server gave HTTP response to HTTPS client")
}
