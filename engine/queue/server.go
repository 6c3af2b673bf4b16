package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

const (
	maxPayload = 64 << 20 // NATS's own limit
	startTime  = 2 * time.Minute
)

// embedded is a NATS server inside the process that listens nowhere.
type embedded struct {
	server    *server.Server
	lock      *os.File
	temporary string // to be removed at the end
}

// startServer starts the embedded server on the options' folder.
func startServer(o Options) (*embedded, error) {
	e := &embedded{}
	if err := e.start(o); err != nil {
		return nil, errors.Join(err, e.close())
	}
	return e, nil
}

func (e *embedded) start(o Options) (err error) {
	dir := o.Dir
	if o.Memory {
		// The server wants a folder for its own records even so.
		if e.temporary, err = os.MkdirTemp("", "comfyrun-queue-"); err != nil {
			return err
		}
		dir = e.temporary
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if e.lock, err = lockFolder(dir); err != nil {
		return err
	}
	room := 2 * (o.MaxBytes + o.HistoryBytes + claimBytes(o))
	options := &server.Options{
		ServerName: "comfyrun", DontListen: true, NoSigs: true, NoLog: true,
		JetStream: true, StoreDir: dir, JetStreamMaxStore: room, JetStreamMaxMemory: 64 << 20,
		MaxPayload: maxPayload, MaxPending: 4 * maxPayload,
		SyncAlways: o.SyncInterval == 0, SyncInterval: o.SyncInterval,
	}
	if o.Memory {
		options.JetStreamMaxMemory, options.SyncAlways = room, false
	}
	if e.server, err = server.NewServer(options); err != nil {
		return fmt.Errorf("embedded NATS server: %w", err)
	}
	e.server.Start()
	if !e.server.ReadyForConnections(startTime) {
		return fmt.Errorf("embedded NATS server in %s is not ready after %v", dir, startTime)
	}
	return nil
}

// lockFolder makes sure that no other process uses the folder: two servers
// would destroy each other's files.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("%s is in use by another process: one process at a time, or an external NATS", dir)
	}
	if err != nil && !errors.Is(err, syscall.ENOTSUP) && !errors.Is(err, syscall.ENOLCK) {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

func (e *embedded) close() error {
	if e.server != nil {
		e.server.Shutdown()
		e.server.WaitForShutdown()
	}
	var errs []error
	if e.lock != nil {
		errs = append(errs, e.lock.Close())
	}
	if e.temporary != "" {
		errs = append(errs, os.RemoveAll(e.temporary))
	}
	return errors.Join(errs...)
}
