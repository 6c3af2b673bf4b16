package auth

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"
)

// File is the tokens of a file, which is looked at again every Interval. When it has
// become wrong, or is gone, the old tokens stay.
type File struct {
	path     string
	interval time.Duration
	report   func(error) // told once about each wrong content

	mu      sync.Mutex
	set     Set
	sum     [sha256.Size]byte // of the content that was read last
	problem string
	next    time.Time
}

// reloadInterval is how soon a changed file counts. A Secret of Kubernetes takes longer to arrive.
const reloadInterval = 2 * time.Second

// Open reads a file of tokens, which must hold at least one. report, which may be nil, is told
// when the file has changed (nil) or has become wrong (why); it must not call the File.
func Open(path string, report func(error)) (*File, error) {
	if report == nil {
		report = func(error) {}
	}
	f := &File{path: path, interval: reloadInterval, report: report}
	set, sum, err := f.read()
	if err != nil {
		return nil, err
	}
	f.set, f.sum, f.next = set, sum, time.Now().Add(f.interval)
	return f, nil
}

func (f *File) read() (Set, [sha256.Size]byte, error) {
	data, err := os.ReadFile(f.path)
	if err != nil {
		return Set{}, [sha256.Size]byte{}, fmt.Errorf("read tokens: %w", err)
	}
	sum := sha256.Sum256(data)
	if sum == f.sum {
		return f.set, sum, nil
	}
	set, err := Parse(data)
	if err == nil && set.Len() == 0 {
		err = errors.New("no token in it")
	}
	if err != nil {
		return Set{}, sum, fmt.Errorf("%s: %w", f.path, err)
	}
	return set, sum, nil
}

// Find returns whose token it is, by the file as it is now or was last right.
func (f *File) Find(token string) (Identity, bool) { return f.current().Find(token) }

func (f *File) current() Set {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	if now.Before(f.next) {
		return f.set
	}
	f.next = now.Add(f.interval)
	set, sum, err := f.read()
	switch {
	case err != nil && err.Error() != f.problem:
		f.problem = err.Error()
		f.report(fmt.Errorf("tokens are not reloaded: %w", err))
	case err == nil:
		f.problem = ""
		if !bytes.Equal(sum[:], f.sum[:]) {
			f.set, f.sum = set, sum
			f.report(nil)
		}
	}
	return f.set
}

// CheckListen refuses to serve everybody on an address that others can reach, unless there are tokens or somebody said
// that none are wanted. The address is HOST:PORT; an empty host is every interface.
func CheckListen(address string, tokens, noAuth bool) error {
	if tokens && noAuth {
		return errors.New("--tokens and --no-auth exclude each other")
	}
	if tokens || noAuth || loopback(address) {
		return nil
	}
	return fmt.Errorf("listen on %s: others can reach this address, so give --tokens FILE, or --no-auth if anybody may run workflows", address)
}

func loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
