// Package local runs a NATS server inside this process: for the single-process mode, where it
// keeps its data in a folder, and for tests. It is no mock: it is the server itself.
package local

import (
	"errors"
	"fmt"
	"math"
	"os"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/zap"
)

// MaxPayload is the largest message the platform sends: a stored workflow of 1 MiB and room around it.
const MaxPayload = 4 << 20

// startWait is how long a server may take to recover its folder and to listen.
const startWait = 20 * time.Second

// Options of the server.
type Options struct {
	Dir        string        // data folder; required
	Addr       string        // host to listen on; "" for connections inside the process only
	Port       int           // -1 picks a free one
	SyncAlways bool          // fsync before every acknowledgement
	SyncEvery  time.Duration // else fsync this often; 0 means 100 ms
	Log        *zap.Logger
}

// Server is a running NATS server with JetStream.
type Server struct{ *server.Server }

// maxStore is no bound. Left out it would be three quarters of what is free at the start, and the server would set what
// streams may grow to against it: on a disk that has become fuller it would not even open those that are there.
const maxStore = math.MaxInt64 / 2

// Start runs a server and waits until it takes connections.
func Start(o Options) (*Server, error) {
	if o.Dir == "" {
		return nil, errors.New("start NATS: no data folder given")
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	if o.SyncEvery == 0 {
		o.SyncEvery = 100 * time.Millisecond
	}
	opts := &server.Options{
		ServerName: "agentflow-local", JetStream: true, StoreDir: o.Dir, NoSigs: true, MaxPayload: MaxPayload,
		DontListen: o.Addr == "", Host: o.Addr, Port: o.Port,
		SyncAlways: o.SyncAlways, SyncInterval: o.SyncEvery, NoSystemAccount: true,
		JetStreamMaxMemory: 256 << 20, JetStreamMaxStore: maxStore,
	}
	ns, err := server.NewServer(opts)
	if err != nil {
		return nil, fmt.Errorf("start NATS: %w", err)
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	fatal := make(chan error, 1)
	ns.SetLoggerV2(serverLog{o.Log.Sugar(), fatal}, false, false, false)
	ns.Start()
	if err = ready(ns, fatal); err != nil {
		ns.Shutdown()
		return nil, fmt.Errorf("start NATS on data folder %s: %w", o.Dir, err)
	}
	return &Server{ns}, nil
}

// ready waits until the server takes connections, or has said why it never will.
func ready(ns *server.Server, fatal <-chan error) error {
	for deadline := time.Now().Add(startWait); ; {
		if ns.ReadyForConnections(50 * time.Millisecond) {
			return nil
		}
		select {
		case err := <-fatal:
			return err
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("not ready after %v", startWait)
		}
	}
}

// Stop closes the server and waits until its files are closed.
func (s *Server) Stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// serverLog hands the server's words to zap; its notices are our details. What is fatal to it is also handed to fatal, the first time.
type serverLog struct {
	log   *zap.SugaredLogger
	fatal chan<- error
}

func (l serverLog) Noticef(f string, v ...any) { l.log.Debugf(f, v...) }
func (l serverLog) Warnf(f string, v ...any)   { l.log.Warnf(f, v...) }
func (l serverLog) Errorf(f string, v ...any)  { l.log.Errorf(f, v...) }
func (l serverLog) Debugf(f string, v ...any)  { l.log.Debugf(f, v...) }
func (l serverLog) Tracef(string, ...any)      {}

func (l serverLog) Fatalf(f string, v ...any) {
	l.log.Errorf(f, v...)
	select {
	case l.fatal <- fmt.Errorf(f, v...):
	default:
	}
}

var _ server.Logger = serverLog{}
