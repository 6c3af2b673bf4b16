// Package queuetest starts NATS servers for tests: real ones, that listen on this machine, as a cluster that processes share does.
package queuetest

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Listen starts a NATS server with JetStream, its files in dir, on a port or any with -1. It ends with the test.
func Listen(t testing.TB, dir string, port int) *server.Server {
	t.Helper()
	s, err := server.NewServer(&server.Options{ServerName: "test", Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: dir,
		NoSigs: true, NoLog: true, JetStreamMaxStore: 16 << 30, JetStreamMaxMemory: 1 << 30})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		t.Fatal("the NATS server does not start")
	}
	t.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// URL starts a server and returns the address that clients connect to.
func URL(t testing.TB) string {
	t.Helper()
	return Listen(t, t.TempDir(), -1).ClientURL()
}
