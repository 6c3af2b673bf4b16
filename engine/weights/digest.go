package weights

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Digests remembers the sha256 of files, so that a checkpoint is hashed once
// and not at every start. Dir holds one small file for each path; "" remembers
// only as long as the value lives. Its methods may be called from several
// goroutines at once.
type Digests struct {
	Dir string

	mu   sync.Mutex
	sums map[stamp]string
}

// stamp tells a version of a file from others without reading it.
type stamp struct {
	Path  string
	Size  int64
	Inode uint64
	Mtime int64 // nanoseconds since 1970
	Ctime int64 // likewise
}

// remembered is what a file in Dir holds, as JSON.
type remembered struct {
	Stamp  stamp
	SHA256 string
}

// Digest returns the sha256 of the file at path in hexadecimal. The remembered
// one is taken while size, inode and times of the file are what they were.
func (d *Digests) Digest(ctx context.Context, path string) (string, error) {
	canonical, err := canonicalPath(path)
	if err != nil {
		return "", fmt.Errorf("digest: %w", err)
	}
	before, err := stampOf(canonical)
	if err != nil {
		return "", fmt.Errorf("digest %s: %w", canonical, err)
	}
	d.mu.Lock()
	sum, ok := d.sums[before]
	d.mu.Unlock()
	if ok {
		return sum, nil
	}
	if sum, err = d.digest(ctx, canonical); err != nil {
		return "", fmt.Errorf("digest %s: %w", canonical, err)
	}
	d.keep(before, sum)
	return sum, nil
}

// keep remembers a sum in memory, if the file is still the one with that stamp.
func (d *Digests) keep(s stamp, sum string) {
	if now, err := stampOf(s.Path); err != nil || now != s || s.young() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sums == nil {
		d.sums = map[stamp]string{}
	}
	d.sums[s] = sum
}

func (d *Digests) digest(ctx context.Context, path string) (string, error) {
	if d.Dir == "" {
		sum, _, err := hashFile(ctx, path)
		return sum, err
	}
	name := sha256.Sum256([]byte(path))
	note := filepath.Join(d.Dir, hex.EncodeToString(name[:16])+".json")
	if sum, ok := recall(note, path); ok {
		return sum, nil
	}
	unlock, err := d.lock(ctx, note)
	if err != nil {
		return "", err
	}
	defer unlock()
	if sum, ok := recall(note, path); ok {
		return sum, nil
	}
	sum, s, err := hashFile(ctx, path)
	if err != nil {
		return "", err
	}
	// A note that cannot be written costs the next start some seconds, no more.
	_ = remember(note, remembered{s, sum})
	return sum, nil
}

// lock keeps others from hashing the same file meanwhile. In a folder that
// cannot be written to nobody is kept from anything.
func (d *Digests) lock(ctx context.Context, note string) (unlock func(), err error) {
	if err := os.MkdirAll(d.Dir, 0o755); err != nil {
		return func() {}, nil
	}
	unlock, err = lockPath(ctx, note+".lock")
	if err != nil && ctx.Err() == nil {
		return func() {}, nil
	}
	return unlock, err
}

func recall(note, path string) (string, bool) {
	data, err := os.ReadFile(note)
	if err != nil {
		return "", false
	}
	var r remembered
	if err := json.Unmarshal(data, &r); err != nil {
		return "", false
	}
	now, err := stampOf(path)
	raw, hexErr := hex.DecodeString(r.SHA256)
	return r.SHA256, err == nil && hexErr == nil && len(raw) == sha256.Size && r.Stamp == now
}

// clockStep is longer than a step of the clock that stamps files: a file that
// changed more recently than this may change again under the same stamp.
const clockStep = 50 * time.Millisecond

// young says that the file may change again under the same stamp.
func (s stamp) young() bool {
	return time.Since(time.Unix(0, max(s.Ctime, s.Mtime))) < clockStep
}

// remember writes the note, unless the file is too young to trust its stamp.
func remember(note string, r remembered) error {
	if r.Stamp.young() {
		return nil
	}
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return replaceFile(note, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}

// hashFile reads the whole file. It fails when the file changes meanwhile.
func hashFile(ctx context.Context, path string) (string, stamp, error) {
	before, err := stampOf(path)
	if err != nil {
		return "", stamp{}, err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", stamp{}, err
	}
	defer f.Close()
	h := sha256.New()
	buf := make([]byte, 1<<20)
	for {
		n, err := f.Read(buf)
		h.Write(buf[:n])
		if err == io.EOF {
			break
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return "", stamp{}, err
		}
	}
	after, err := stampOf(path)
	if err != nil {
		return "", stamp{}, err
	}
	if after != before {
		return "", stamp{}, fmt.Errorf("the file changed while it was read")
	}
	return hex.EncodeToString(h.Sum(nil)), before, nil
}

func stampOf(path string) (stamp, error) {
	var s unix.Stat_t
	if err := unix.Stat(path, &s); err != nil {
		return stamp{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return stamp{Path: path, Size: s.Size, Inode: s.Ino, Mtime: s.Mtim.Nano(), Ctime: s.Ctim.Nano()}, nil
}
