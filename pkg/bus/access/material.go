package access

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/agentflow/agentflow/pkg/protocol"
)

// Names of the files in a folder of material.
const (
	ServerFolder = "nats" // of the server: UsersFile, CertFile and KeyFile
	UsersFile    = "users.conf"
	CertFile     = "server.pem"
	KeyFile      = "server-key.pem"
	CAFile       = "ca.pem"  // in every folder
	SeedFile     = "nats.nk" // in the folder of each role
)

// Options of Prepare.
type Options struct {
	Partitions int // of the execution log; 0: the default
	Tenants    []protocol.TenantID
	Hosts      []string // names and addresses under which the servers are reached
}

// Prepare fills a folder with all that a NATS server and its users need: a folder for the server, and one for each
// role with its seed and the authority to trust. Keys that are there stay, so it may run at every start; the rules are
// written anew, and certificates when they are about to run out.
func Prepare(dir string, o Options) error {
	if o.Partitions == 0 {
		o.Partitions = protocol.DefaultParts
	}
	list, err := users(o.Partitions, o.Tenants, func(r Role) (string, error) { return userKey(filepath.Join(dir, string(r))) })
	if err != nil {
		return err
	}
	ca, err := certificates(filepath.Join(dir, ServerFolder), o.Hosts)
	if err != nil {
		return err
	}
	for _, u := range list {
		if err := os.WriteFile(filepath.Join(dir, u.Name, CAFile), ca, 0o600); err != nil {
			return err
		}
	}
	var b strings.Builder
	if err := WriteUsers(&b, list); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, ServerFolder, UsersFile), []byte(b.String()), 0o600)
}

// userKey is the public key of the seed in a folder, which is made when it is not there.
func userKey(dir string) (string, error) {
	path := filepath.Join(dir, SeedFile)
	seed, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			return "", err
		}
		if seed, err = pair.Seed(); err != nil {
			return "", err
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, append(seed, '\n'), 0o600); err != nil {
			return "", err
		}
	} else if err != nil {
		return "", err
	}
	pair, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return pair.PublicKey()
}

// Lifetimes of certificates. They are made anew when less than renewBefore is left.
const (
	certLife    = 397 * 24 * time.Hour
	renewBefore = 30 * 24 * time.Hour
)

// certificates makes an authority of this installation and a server certificate, unless good ones are there, and
// returns the authority's certificate. The authority's key is thrown away: a new certificate comes with a new authority.
func certificates(dir string, hosts []string) ([]byte, error) {
	if ca, ok := standing(dir, hosts); ok {
		return ca, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	now := time.Now()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: "AgentFlow NATS authority"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(certLife), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	server := &x509.Certificate{
		SerialNumber: big.NewInt(now.UnixNano() + 1), Subject: pkix.Name{CommonName: "AgentFlow NATS"},
		NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, // routes are clients too
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			server.IPAddresses = append(server.IPAddresses, ip)
		} else {
			server.DNSNames = append(server.DNSNames, h)
		}
	}
	serverKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	caDER, err := x509.CreateCertificate(rand.Reader, authority, authority, &authorityKey.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	certDER, err := x509.CreateCertificate(rand.Reader, server, authority, &serverKey.PublicKey, authorityKey)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(serverKey)
	if err != nil {
		return nil, err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	return ca, errors.Join(
		os.WriteFile(filepath.Join(dir, CAFile), ca, 0o600),
		os.WriteFile(filepath.Join(dir, CertFile), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certDER}), 0o600),
		os.WriteFile(filepath.Join(dir, KeyFile), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600),
	)
}

// standing finds certificates that are still good for the hosts.
func standing(dir string, hosts []string) (ca []byte, ok bool) {
	ca, err := os.ReadFile(filepath.Join(dir, CAFile))
	if err != nil {
		return nil, false
	}
	raw, err := os.ReadFile(filepath.Join(dir, CertFile))
	if err != nil {
		return nil, false
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return nil, false
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil || time.Until(cert.NotAfter) < renewBefore {
		return nil, false
	}
	for _, h := range hosts {
		if cert.VerifyHostname(h) != nil {
			return nil, false
		}
	}
	return ca, true
}
