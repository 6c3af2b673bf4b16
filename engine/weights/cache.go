package weights

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"golang.org/x/sys/unix"
)

// Cache keeps converted weights in files, one for each checkpoint, component
// and list of parts:
//
//	Dir/<sha256 of the checkpoint>-<component>-<digest of the parts>.safetensors
//
// They are made once, also when several processes ask at the same time, and
// mapped from then on. The modification time of a file is that of its last
// use.
type Cache struct {
	// Dir is the folder, made when needed. "" keeps nothing: conversions go
	// into temporary files, in memory (/dev/shm) where there is room.
	Dir string
	// MaxBytes bounds the sum of the files. The files used longest ago are
	// removed, but none that is in use. 0 sets no bound.
	MaxBytes int64
}

// Located says where the parts of a component are.
type Located struct {
	// ByName has a location for every part, by Part.Name.
	ByName map[string]Location

	held      *os.File // the cache file, locked against removal
	temporary string   // path of a file to remove
}

// Close lets the files go: a temporary one is removed, a cached one may be from
// now on. Call it when the locations are mapped, which keeps their contents, or
// when they are not needed. Further calls do nothing.
func (l *Located) Close() error {
	var errs []error
	if l.held != nil {
		errs = append(errs, l.held.Close())
	}
	if l.temporary != "" {
		errs = append(errs, os.Remove(l.temporary))
	}
	l.held, l.temporary = nil, ""
	return errors.Join(errs...)
}

// Locate finds or makes the parts of a component ("unet", "clip_l", …) of f.
// Parts that have their type in f and no Transform are located in f itself, the
// others in one file of the cache.
func (c *Cache) Locate(ctx context.Context, f *File, component string, parts []Part) (*Located, error) {
	l, err := c.locate(ctx, f, component, parts)
	if err != nil {
		return nil, fmt.Errorf("locate weights %s of %s: %w", component, f.Path, err)
	}
	return l, nil
}

// Temporary makes the parts of a component of f, none of which may lie ready in
// f, into a file that lives until Close: for parts that are cheap to make again,
// or seldom needed twice.
func (c *Cache) Temporary(ctx context.Context, f *File, parts []Part) (*Located, error) {
	p, err := newPlan(f, parts)
	if err == nil && len(p.direct) > 0 {
		err = fmt.Errorf("%d of %d parts lie in the file already", len(p.direct), len(parts))
	}
	var l *Located
	if err == nil {
		l, err = p.temporary(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("make weights for %s: %w", f.Path, err)
	}
	return l, nil
}

func (c *Cache) locate(ctx context.Context, f *File, component string, parts []Part) (*Located, error) {
	p, err := newPlan(f, parts)
	if err != nil {
		return nil, err
	}
	if len(p.convert) == 0 {
		return &Located{ByName: p.direct}, nil
	}
	if c.Dir == "" {
		return p.temporary(ctx)
	}
	if !componentForm.MatchString(component) {
		return nil, fmt.Errorf("component %q: letters, digits, _ and . are allowed", component)
	}
	dir, err := makeDir(c.Dir)
	if err != nil {
		return nil, err
	}
	sum, err := (&Digests{Dir: filepath.Join(dir, "digests")}).Digest(ctx, f.Path)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, sum+"-"+component+"-"+p.key()+suffix)
	return c.cached(ctx, p, path)
}

// componentForm keeps the names of cache files to single, harmless elements.
var componentForm = regexp.MustCompile(`^[A-Za-z0-9_.]+$`)

// suffix is that of finished files in the cache.
const suffix = ".safetensors"

// makeDir makes the folder and returns its canonical path, which locations
// need.
func makeDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return canonicalPath(dir)
}

// attempts is how often a file is made that other processes keep removing.
const attempts = 3

// cached finds the cache file at path or makes it.
func (c *Cache) cached(ctx context.Context, p *plan, path string) (*Located, error) {
	if l, err := p.hold(ctx, path); err == nil || ctx.Err() != nil {
		return l, err
	}
	unlock, err := lockPath(ctx, path+".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	for range attempts {
		l, err := p.hold(ctx, path)
		if err == nil || ctx.Err() != nil {
			return l, err
		}
		if err := replaceFile(path, func(w *os.File) error { return syncMeanwhile(w, func() error { return p.fill(ctx, w) }) }); err != nil {
			return nil, err
		}
		c.evict(path)
	}
	return p.hold(ctx, path)
}

// hold opens the cache file at path, locks it against removal and checks that
// it holds what p converts. An error means that the file has to be made.
func (p *plan) hold(ctx context.Context, path string) (*Located, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &Located{held: f}
	err = flock(ctx, f, unix.LOCK_SH)
	if err == nil && !standsAt(f, path) {
		err = fs.ErrNotExist
	}
	if err == nil {
		l.ByName, err = p.locations(path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	// Where the folder is read-only, nobody evicts either.
	_ = os.Chtimes(path, time.Time{}, time.Now())
	return l, nil
}

// locations merges the locations in the source with those in the converted
// file at path, which it checks.
func (p *plan) locations(path string) (map[string]Location, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	all := maps.Clone(p.direct)
	for _, part := range p.convert {
		i, ok := f.Tensor(part.Name)
		if !ok || i.DType != part.dtype() || !i.Shape.Equal(part.Shape) {
			return nil, fmt.Errorf("%s: tensor %q is not %s %v", path, part.Name, part.dtype(), part.Shape)
		}
		all[part.Name] = Location{f.Path, i.Offset, i.Length}
	}
	return all, nil
}

// fill writes the converted file into w.
func (p *plan) fill(ctx context.Context, w *os.File) error {
	img, err := p.layout(map[string]string{"made_from": filepath.Base(p.file.Path), "parts": p.key()})
	if err != nil {
		return err
	}
	if err := reserve(w, img.size); err != nil {
		return err
	}
	return p.write(ctx, w, img)
}

// sharedMemory is where files live in memory.
const sharedMemory = "/dev/shm"

// temporary converts into a file that Close removes.
func (p *plan) temporary(ctx context.Context) (*Located, error) {
	// A quarter more than needed: memory that is filled to the brim kills.
	if free, err := freeBytes(sharedMemory); err == nil && free > p.convertedBytes()/4*5 {
		return p.temporaryIn(ctx, sharedMemory)
	}
	return p.temporaryIn(ctx, os.TempDir())
}

func (p *plan) temporaryIn(ctx context.Context, dir string) (*Located, error) {
	dir, err := canonicalPath(dir)
	if err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, "comfyrun-*"+suffix)
	if err != nil {
		return nil, err
	}
	l := &Located{temporary: f.Name()}
	err = p.fill(ctx, f)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		l.ByName, err = p.locations(f.Name())
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (p *plan) convertedBytes() int64 {
	var n int64
	for _, part := range p.convert {
		n += part.bytes()
	}
	return n
}
