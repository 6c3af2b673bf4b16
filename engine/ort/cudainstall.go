package ort

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// CUDAOptions says what InstallCUDA fetches. The zero value fetches this build's
// pinned files.
type CUDAOptions struct {
	Wheels []Wheel           // nil takes CUDAWheels()
	Say    func(line string) // told what is done, a line each; nil for nobody
}

// InstalledCUDA is what InstallCUDA did, or what is left for it to do.
type InstalledCUDA struct {
	Path     string  `json:"path"`     // the library
	Missing  []Wheel `json:"missing"`  // wheels to fetch, with the members to take
	Download int64   `json:"download"` // bytes of those wheels
	Disk     int64   `json:"disk"`     // bytes of free space wanted on the way
	Kept     int64   `json:"kept"`     // bytes of files that are there and fit
	New      bool    `json:"new"`      // something was installed
}

// PlanCUDA says what InstallCUDA would do: it reads what the folder holds and
// changes nothing.
func PlanCUDA(ctx context.Context, dir string, o CUDAOptions) (*InstalledCUDA, error) {
	if system := runtime.GOOS + "/" + runtime.GOARCH; system != "linux/amd64" {
		return nil, fmt.Errorf("install CUDA: no pinned build for %s; there is one for linux/amd64", system)
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("install CUDA: %w", err)
	}
	plan := &InstalledCUDA{Path: filepath.Join(dir, CUDAFolder, LibraryName)}
	var largest int64
	for _, w := range o.wheels() {
		missing := w
		missing.Members = nil
		for _, m := range w.Members {
			if ctx.Err() != nil {
				return nil, context.Cause(ctx)
			}
			if fits(filepath.Join(filepath.Dir(plan.Path), m.Name()), m) {
				plan.Kept += m.Bytes
				continue
			}
			missing.Members = append(missing.Members, m)
			plan.Disk += m.Bytes
		}
		if missing.Members != nil {
			plan.Missing = append(plan.Missing, missing)
			plan.Download += w.Bytes
			largest = max(largest, w.Bytes)
		}
	}
	plan.Disk += 2 * largest // pip downloads to one place and copies to another
	return plan, nil
}

func (o CUDAOptions) wheels() []Wheel {
	if o.Wheels == nil {
		return cudaWheels
	}
	return o.Wheels
}

// fits says whether a file is the member.
func fits(path string, m Member) bool {
	info, err := os.Stat(path)
	if err != nil || info.Size() != m.Bytes {
		return false
	}
	sum, err := digest(path)
	return err == nil && sum == m.SHA256
}

// InstallCUDA puts the library for CUDA and NVIDIA's libraries into the folder
// CUDAFolder within dir. Wheels come one after the other from PyPI through the
// user's own pip; they and what is taken out of them are checked against the
// pins before a file gets its name. Files that are there and fit are kept, so
// that an installation that was interrupted goes on with the wheel that it was
// at.
func InstallCUDA(ctx context.Context, dir string, o CUDAOptions) (*InstalledCUDA, error) {
	plan, err := PlanCUDA(ctx, dir, o)
	if err != nil || plan.Missing == nil {
		return plan, err
	}
	target := filepath.Dir(plan.Path)
	if err := os.MkdirAll(target, 0o755); err != nil {
		return nil, fmt.Errorf("install CUDA: %w", err)
	}
	lock, err := lockFolder(target)
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	if err := checkSpace(target, plan.Disk); err != nil {
		return nil, err
	}
	for i, w := range plan.Missing {
		say := func(done int64) {
			if o.Say != nil {
				o.Say(fmt.Sprintf("%d of %d: %s, %d of %d MB", i+1, len(plan.Missing), w.Package, done/1e6, w.Bytes/1e6))
			}
		}
		say(0)
		if err := installWheel(ctx, w, target, say); err != nil {
			return nil, fmt.Errorf("install %s with pip: %w", w.Package, err)
		}
	}
	plan.New = true
	return plan, nil
}

// lockFolder makes this the only installation into a folder, until the file
// that it returns is closed, and removes what one that was killed has left.
func lockFolder(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("install CUDA: %w", err)
	}
	// A file system without locks is used without.
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("install CUDA: another installation into %s is under way", dir)
	}
	left, _ := filepath.Glob(filepath.Join(dir, workPattern+"*"))
	for _, work := range left {
		os.RemoveAll(work)
	}
	return f, nil
}

// workPattern begins the names of folders that only exist during installation.
const workPattern = ".install-"

// checkSpace refuses a folder on a disk with too little room.
func checkSpace(dir string, want int64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("install CUDA: ask for free space: %w", err)
	}
	if free := int64(fs.Bavail) * int64(fs.Bsize); free < want {
		return fmt.Errorf("install CUDA: %d MB must be free in %s while it is installed, %d MB are", want/1e6, dir, free/1e6)
	}
	return nil
}

// installWheel fetches, checks and unpacks in a folder beside the target, so
// that the last step for each file is a rename. say is told how many bytes are
// there while they come.
func installWheel(ctx context.Context, w Wheel, target string, say func(done int64)) error {
	work, err := os.MkdirTemp(target, workPattern)
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	// Neither the home folder nor the system's folder for temporary files need
	// have room for another copy.
	pip := Pin{Source: "pip", Package: w.Package, Wheel: w.Platform}
	stop := watch(work, func(size int64) { say(min(size, w.Bytes)) })
	archive, err := fetch(ctx, pip, work, "PIP_NO_CACHE_DIR=1", "TMPDIR="+work)
	stop()
	if err != nil {
		return err
	}
	if err := checkDigest(archive, w.Archive); err != nil {
		return err
	}
	for _, m := range w.Members {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		if err := installMember(archive, m, work, target); err != nil {
			return err
		}
	}
	return syncDir(target)
}

// watchInterval is how often a download tells how far it is.
const watchInterval = 5 * time.Second

// watch tells the size of what a folder holds, whenever that has changed, until
// stop is called.
func watch(dir string, tell func(size int64)) (stop func()) {
	ticker, done, ended := time.NewTicker(watchInterval), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for last := int64(0); ; {
			select {
			case <-done:
				return
			case <-ticker.C:
			}
			if size := sizeOf(dir); size != last {
				last = size
				tell(size)
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
		<-ended
	}
}

// sizeOf returns the bytes of all files below a folder; what goes away meanwhile
// does not count.
func sizeOf(dir string) (size int64) {
	filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			size += info.Size()
		}
		return nil
	})
	return size
}

func installMember(archive string, m Member, work, target string) error {
	file := filepath.Join(work, m.Name())
	if err := unpack(archive, m.Path, file); err != nil {
		return err
	}
	if err := checkDigest(file, m.SHA256); err != nil {
		return err
	}
	return os.Rename(file, filepath.Join(target, m.Name()))
}

// syncDir flushes a folder's names to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
