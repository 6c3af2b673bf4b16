package live

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// world is a folder with a models.lock, a store, folders of models, and a server of files.
type world struct {
	t       *testing.T
	dir     string
	keeper  *Keeper
	url     string
	sent    atomic.Int64
	waiting chan string // paths that are asked for, if somebody listens
	left    chan string // paths of requests that were given up while they were held
	hold    atomic.Pointer[chan struct{}]

	mu    sync.Mutex
	files map[string]string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), files: map[string]string{}, waiting: make(chan string, 100), left: make(chan string, 100)}
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	t.Cleanup(func() { w.release() })
	w.url = server.URL
	return w
}

func (w *world) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	select {
	case w.waiting <- r.URL.Path:
	default:
	}
	if hold := w.hold.Load(); hold != nil {
		select {
		case <-*hold:
		case <-r.Context().Done():
			w.left <- r.URL.Path
			return
		}
	}
	w.mu.Lock()
	text, ok := w.files[r.URL.Path]
	w.mu.Unlock()
	if !ok {
		http.NotFound(out, r)
		return
	}
	if r.Header.Get("Range") != "bytes=0-0" {
		w.sent.Add(int64(len(text)))
	}
	http.ServeContent(out, r, "", time.Time{}, strings.NewReader(text))
}

// block lets no request end until release.
func (w *world) block() {
	hold := make(chan struct{})
	w.hold.Store(&hold)
}

func (w *world) release() {
	if hold := w.hold.Swap(nil); hold != nil {
		close(*hold)
	}
}

// entry is a pin of a text that the server has unless it is said to be absent.
func (w *world) entry(name, text string, labels ...string) models.Entry {
	w.t.Helper()
	sum, err := models.HashPieces(w.t.Context(), strings.NewReader(text), nil)
	if err != nil {
		w.t.Fatal(err)
	}
	path := "/" + sum.SHA256
	w.mu.Lock()
	w.files[path] = text
	w.mu.Unlock()
	return models.Entry{Name: name, Size: sum.Size, SHA256: sum.SHA256, Labels: labels, Sources: []string{w.url + path}}
}

func (w *world) lockFile() string { return filepath.Join(w.dir, "models.lock") }

func (w *world) lock(entries ...models.Entry) {
	w.t.Helper()
	lock := &models.Lock{}
	for _, e := range entries {
		lock.Set(e)
	}
	if err := models.WriteLock(w.lockFile(), lock); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) put(folder, name, text string) {
	w.t.Helper()
	file := filepath.Join(w.dir, folder, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o644)); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) open(missing bool) *Keeper {
	w.t.Helper()
	store := &models.Store{Dir: filepath.Join(w.dir, "home")}
	transport, err := fetch.NewTransport("")
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(transport.CloseIdleConnections)
	folders := models.NewFolders([]string{filepath.Join(w.dir, "models"), filepath.Join(store.Dir, "models")})
	w.keeper, err = Open(Options{
		File: w.lockFile(), Folders: folders, Missing: missing, Sums: reading{},
		Fetcher: &fetch.Fetcher{Store: store, Folders: folders, Tries: 2, Pause: time.Millisecond,
			Sources: map[string]fetch.Source{"http": &fetch.Web{Client: fetch.NewClient(transport)}}},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.keeper
}

// reading hashes files each time.
type reading struct{}

func (reading) Digest(ctx context.Context, file string) (string, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	sum, err := models.HashPieces(ctx, bytes.NewReader(data), nil)
	return sum.SHA256, err
}

// content is what a name leads to: "" for nothing.
func content(t *testing.T, p models.Pins, name string) string {
	t.Helper()
	folder, rest, _ := strings.Cut(name, "/")
	file, ok := p.Path(folder, rest)
	if !ok {
		return ""
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

const name = "checkpoints/base.safetensors"

func TestEnsureWithoutFetching(t *testing.T) {
	w := newWorld(t)
	w.lock(w.entry(name, "weights"))
	k := w.open(false)
	if got := k.Names("checkpoints"); len(got) > 0 {
		t.Errorf("names are %v before a file is there", got)
	}
	err := k.Ensure(t.Context(), []string{name, "vae/not-pinned.pt"}, nil)
	if !errors.Is(err, models.ErrMissing) || !strings.Contains(err.Error(), `"base.safetensors" in checkpoints`) ||
		!strings.Contains(err.Error(), "--fetch=missing") {
		t.Errorf("error is %v", err)
	}
	if e, absent := k.Set().Absent(name); !absent || e.Name != name {
		t.Errorf("absent is %v, %v", e, absent)
	}
	w.put("models/checkpoints", "base.safetensors", "weights")
	if err := k.Ensure(t.Context(), []string{name}, nil); err != nil {
		t.Error(err)
	}
	if diff := cmp.Diff([]string{"base.safetensors"}, k.Names("checkpoints")); diff != "" {
		t.Error(diff)
	}
	w.put("models/checkpoints", "base.safetensors", "weightz")
	var wrong *Error
	if err := k.Ensure(t.Context(), []string{name}, nil); !errors.Is(err, models.ErrDigest) || !errors.As(err, &wrong) || wrong.Entry.Name != name {
		t.Errorf("a wrong file: error is %v", err)
	}
	if n := w.sent.Load(); n > 0 {
		t.Errorf("%d bytes were fetched", n)
	}
}

func TestEnsureFetches(t *testing.T) {
	w := newWorld(t)
	e := w.entry(name, "weights")
	w.lock(e)
	k := w.open(true)
	if diff := cmp.Diff([]string{"base.safetensors"}, k.Names("checkpoints")); diff != "" {
		t.Error(diff)
	}
	var group sync.WaitGroup
	var told [4]int64
	for i := range told { // at one time, each told of the progress
		group.Go(func() {
			err := k.Ensure(t.Context(), []string{name}, Meter(func(p Progress) { told[i] = p.Bytes }))
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	for _, n := range told {
		if n != 0 && n != e.Size { // who comes late is told nothing
			t.Errorf("told are %v bytes, want %d at the end", told, e.Size)
		}
	}
	if got := content(t, k, name); got != "weights" {
		t.Errorf("the name leads to %q", got)
	}
	if file, _ := k.Path("checkpoints", "base.safetensors"); filepath.Base(file) != "base.safetensors" {
		t.Errorf("the file is called %s", file)
	}
	if n := w.sent.Load(); n != e.Size {
		t.Errorf("%d bytes were sent, want %d", n, e.Size)
	}
}

// A store that has an older version under the name gets the pinned one.
func TestEnsureReplacesOlderVersion(t *testing.T) {
	w := newWorld(t)
	w.lock(w.entry(name, "old"))
	if err := w.open(true).Ensure(t.Context(), []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	w.lock(w.entry(name, "new!"))
	if err := w.open(false).Ensure(t.Context(), []string{name}, nil); !errors.Is(err, models.ErrMissing) {
		t.Errorf("without fetching: error is %v, want ErrMissing", err)
	}
	k := w.open(true)
	if err := k.Ensure(t.Context(), []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	if got := content(t, k, name); got != "new!" {
		t.Errorf("the name leads to %q", got)
	}
}

// A link that somebody made in the store's folder of names is a file like others.
func TestEnsureTakesLinks(t *testing.T) {
	w := newWorld(t)
	w.put("elsewhere", "x", "weights")
	w.lock(w.entry(name, "weights"))
	link := filepath.Join(w.dir, "home", "models", name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(link), 0o755), os.Symlink(filepath.Join(w.dir, "elsewhere", "x"), link)); err != nil {
		t.Fatal(err)
	}
	k := w.open(false)
	if err := k.Ensure(t.Context(), []string{name}, nil); err != nil || content(t, k, name) != "weights" {
		t.Errorf("error is %v", err)
	}
	w.put("elsewhere", "x", "weightz")
	if err := k.Ensure(t.Context(), []string{name}, nil); !errors.Is(err, models.ErrDigest) {
		t.Errorf("error is %v, want ErrDigest", err)
	}
}

func TestWrongSource(t *testing.T) {
	w := newWorld(t)
	e := w.entry(name, "weights")
	w.mu.Lock()
	w.files["/"+e.SHA256] = "weightz"
	w.mu.Unlock()
	w.lock(e)
	k := w.open(true)
	if err := k.Ensure(t.Context(), []string{name}, nil); !errors.Is(err, models.ErrDigest) {
		t.Errorf("error is %v, want ErrDigest", err)
	}
	if got := content(t, k, name); got != "" {
		t.Errorf("the name leads to %q", got)
	}
}

func TestEnsureIsCancelled(t *testing.T) {
	w := newWorld(t)
	w.lock(w.entry(name, "weights"))
	k := w.open(true)
	w.block()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-w.waiting
		cancel()
	}()
	if err := k.Ensure(ctx, []string{name}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v, want Canceled", err)
	}
}

func TestLabels(t *testing.T) {
	w := newWorld(t)
	w.lock(w.entry("checkpoints/portrait/1.safetensors", "one", "stable"), w.entry("checkpoints/portrait/2.safetensors", "two", "canary"),
		w.entry("checkpoints/top.safetensors", "top", "stable"))
	k := w.open(true)
	want := []string{"portrait/1.safetensors", "portrait/2.safetensors", "portrait@canary", "portrait@stable", "top.safetensors"}
	if diff := cmp.Diff(want, k.Names("checkpoints")); diff != "" {
		t.Error(diff)
	}
	if err := k.Ensure(t.Context(), []string{"checkpoints/portrait@canary"}, nil); err != nil {
		t.Fatal(err)
	}
	if got := content(t, k, "checkpoints/portrait@canary"); got != "two" {
		t.Errorf("the canary is %q", got)
	}
	if got := content(t, k, "checkpoints/portrait@stable"); got != "" {
		t.Errorf("the stable one is %q, and nobody wanted it", got)
	}
}

// A version is rolled out by moving its label.
func TestWatchMovesLabel(t *testing.T) {
	const one, two, label = "checkpoints/portrait/1.safetensors", "checkpoints/portrait/2.safetensors", "checkpoints/portrait@stable"
	w := newWorld(t)
	w.lock(w.entry(one, "one", "stable"), w.entry(two, "two", "canary"))
	k := w.open(true)
	if err := k.Ensure(t.Context(), []string{label}, nil); err != nil {
		t.Fatal(err)
	}
	v := w.watch(nil)
	w.lock(w.entry(one, "one"), w.entry(two, "two", "stable"))
	o := next(t, v.outcomes)
	if diff := cmp.Diff([]string{label}, o.Names); diff != "" || o.Err != nil {
		t.Errorf("outcome %+v %s", o, diff)
	}
	if got := next(t, v.warmed); got != label+"=two" || content(t, k, label) != "two" || content(t, k, one) != "one" {
		t.Errorf("tried is %s, the label leads to %q", got, content(t, k, label))
	}
	if len(v.unused) > 0 {
		t.Errorf("%v is still pinned by its own name", <-v.unused)
	}
}

// watched is a keeper that follows its lock, with what it told.
type watched struct {
	*world
	outcomes chan Outcome
	warmed   chan string // what the name leads to in a set that is tried
	unused   chan []string
	broken   atomic.Bool // Warm fails
	busy     sync.Mutex  // held while a prompt runs
}

func (w *world) watch(change func(*Follower)) *watched {
	w.t.Helper()
	v := &watched{world: w, outcomes: make(chan Outcome, 100), warmed: make(chan string, 100), unused: make(chan []string, 100)}
	f := Follower{
		Every:   5 * time.Millisecond,
		Outcome: func(o Outcome) { v.outcomes <- o },
		Unused:  func(files []string) { v.unused <- files },
		Warm: func(_ context.Context, next *Set, names []string) error {
			v.warmed <- strings.Join(names, " ") + "=" + content(w.t, next, names[0])
			if v.broken.Load() {
				return errors.New("does not run")
			}
			return nil
		},
		Idle: func(_ context.Context, replace func()) error {
			v.busy.Lock()
			defer v.busy.Unlock()
			replace()
			return nil
		},
	}
	if change != nil {
		change(&f)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() { w.keeper.Watch(ctx, f); close(done) }()
	w.t.Cleanup(func() { cancel(); w.release(); <-done })
	return v
}

func next[T any](t *testing.T, c chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(time.Minute):
		t.Fatal("nothing happens")
		panic("unreachable")
	}
}

func TestWatchReplaces(t *testing.T) {
	w := newWorld(t)
	w.lock(w.entry(name, "old"))
	k := w.open(true)
	if err := k.Ensure(t.Context(), []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	v := w.watch(nil)
	old, _ := k.Path("checkpoints", "base.safetensors")
	oldBlob, err := filepath.EvalSymlinks(old)
	if err != nil {
		t.Fatal(err)
	}
	v.busy.Lock() // a prompt runs
	w.lock(w.entry(name, "new!"), w.entry("loras/extra.safetensors", "more"))
	if got := next(t, v.warmed); got != name+"=new!" {
		t.Errorf("tried is %s", got)
	}
	time.Sleep(20 * time.Millisecond)
	shown := filepath.Join(w.dir, "home", "models", name)
	if data, _ := os.ReadFile(shown); content(t, k, name) != "old" || string(data) != "old" {
		t.Errorf("while a prompt runs the name leads to %q, and to %q for others", content(t, k, name), data)
	}
	v.busy.Unlock()
	o := next(t, v.outcomes)
	if diff := cmp.Diff([]string{name}, o.Names); diff != "" || o.Err != nil {
		t.Errorf("outcome %+v %s", o, diff)
	}
	if data, _ := os.ReadFile(shown); content(t, k, name) != "new!" || string(data) != "new!" {
		t.Errorf("the name leads to %q, and to %q for others", content(t, k, name), data)
	}
	if diff := cmp.Diff([]string{oldBlob}, next(t, v.unused)); diff != "" {
		t.Error(diff)
	}
	if data, _ := os.ReadFile(old); string(data) != "old" {
		t.Errorf("who has opened the old file now reads %q", data)
	}
	if !slices.Contains(k.Names("loras"), "extra.safetensors") || content(t, k, "loras/extra.safetensors") != "" {
		t.Error("a new entry is to be known, and to come when somebody wants it")
	}
}

// Whatever is wrong with the new lock or its files, the old set is served, and the reason told once.
func TestWatchKeepsOldSet(t *testing.T) {
	for _, c := range []struct {
		title string
		spoil func(w *watched)
		want  string
	}{
		{"no source", func(w *watched) {
			e := w.entry(name, "new!")
			e.Sources = []string{w.url + "/gone"}
			w.lock(e)
		}, "404"},
		{"wrong content", func(w *watched) {
			e := w.entry(name, "new!")
			w.mu.Lock()
			w.files["/"+e.SHA256] = "evil"
			w.mu.Unlock()
			w.lock(e)
		}, "content differs"},
		{"does not run", func(w *watched) { w.broken.Store(true); w.lock(w.entry(name, "new!")) }, "try new models: does not run"},
		{"no lock any more", func(w *watched) {
			w.put("", "models.lock", "version = 1\n[[model]]\nnam = 'x'\n")
		}, "line 3, column 1: unknown key model.nam"},
		{"lock is gone", func(w *watched) {
			if err := os.Remove(w.lockFile()); err != nil {
				w.t.Error(err)
			}
		}, "no such file"},
	} {
		t.Run(c.title, func(t *testing.T) {
			w := newWorld(t)
			old := w.entry(name, "old")
			w.lock(old)
			k := w.open(true)
			if err := k.Ensure(t.Context(), []string{name}, nil); err != nil {
				t.Fatal(err)
			}
			v := w.watch(nil)
			c.spoil(v)
			o := next(t, v.outcomes)
			if o.Err == nil || !strings.Contains(o.Err.Error(), c.want) {
				t.Errorf("outcome %+v, want %q", o, c.want)
			}
			time.Sleep(50 * time.Millisecond)
			if len(v.outcomes) > 0 {
				t.Errorf("told again at once: %+v", <-v.outcomes)
			}
			if got := content(t, k, name); got != "old" {
				t.Errorf("the name leads to %q", got)
			}
			w.lock(old) // taken back
			if o := next(t, v.outcomes); o.Err != nil {
				t.Errorf("taken back: %+v", o)
			}
			v.broken.Store(false)
			w.lock(w.entry(name, "newer")) // mended
			if o := next(t, v.outcomes); o.Err != nil || content(t, k, name) != "newer" {
				t.Errorf("mended: %+v", o)
			}
		})
	}
}

// A file of a folder that was the old version is no obstacle, and is not touched.
func TestWatchBesideFolderFile(t *testing.T) {
	w := newWorld(t)
	w.put("models/checkpoints", "base.safetensors", "old")
	w.lock(w.entry(name, "old"))
	k := w.open(true)
	v := w.watch(nil)
	w.lock(w.entry(name, "new!"))
	if o := next(t, v.outcomes); o.Err != nil {
		t.Fatal(o.Err)
	}
	data, _ := os.ReadFile(filepath.Join(w.dir, "models", name))
	if content(t, k, name) != "new!" || string(data) != "old" {
		t.Errorf("the name leads to %q, the folder's file is %q", content(t, k, name), data)
	}
	if again := w.open(false); content(t, again, name) != "new!" {
		t.Error("the next process would serve another file")
	}
}

// A mounted ConfigMap changes by a link to a folder that is replaced.
func TestWatchConfigMap(t *testing.T) {
	w := newWorld(t)
	write := func(version string, e models.Entry) {
		w.t.Helper()
		w.lock(e)
		text, err := os.ReadFile(w.lockFile())
		if err != nil {
			t.Fatal(err)
		}
		w.put("mount/"+version, "models.lock", string(text))
		link := filepath.Join(w.dir, "mount", "..tmp")
		if err := errors.Join(os.Symlink(version, link), os.Rename(link, filepath.Join(w.dir, "mount", "..data"))); err != nil {
			t.Fatal(err)
		}
	}
	write("..1", w.entry(name, "old"))
	if err := errors.Join(os.Remove(w.lockFile()), os.Symlink("mount/..data/models.lock", w.lockFile())); err != nil {
		t.Fatal(err)
	}
	mounted := filepath.Join(w.dir, "mount", "models.lock")
	if err := os.Symlink("..data/models.lock", mounted); err != nil {
		t.Fatal(err)
	}
	w.open(true)
	w.keeper.options.File = mounted
	v := w.watch(func(f *Follower) { f.Only = true })
	write("..2", w.entry(name, "new!"))
	if o := next(t, v.outcomes); o.Err != nil || len(o.Names) != 1 {
		t.Errorf("outcome %+v", o)
	}
	if n := w.sent.Load(); n > 0 {
		t.Errorf("%d bytes were fetched for who runs nothing", n)
	}
}

// A change while the one before is being fetched: that one is given up.
func TestWatchChangesAgain(t *testing.T) {
	w := newWorld(t)
	w.lock(w.entry(name, "old"))
	k := w.open(true)
	if err := k.Ensure(t.Context(), []string{name}, nil); err != nil {
		t.Fatal(err)
	}
	v := w.watch(nil)
	for len(w.waiting) > 0 {
		<-w.waiting
	}
	w.block()
	slow, fast := w.entry(name, "slow"), w.entry(name, "fast!")
	w.lock(slow)
	next(t, w.waiting)
	w.lock(fast)
	next(t, w.left)
	w.release()
	if o := next(t, v.outcomes); o.Err != nil || content(t, k, name) != "fast!" {
		t.Errorf("outcome %+v, the name leads to %q", o, content(t, k, name))
	}
}

func TestOpenRefuses(t *testing.T) {
	w := newWorld(t)
	if _, err := Open(Options{File: w.lockFile()}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: error is %v", err)
	}
	k, err := Open(Options{File: w.lockFile(), Optional: true})
	if err != nil || len(k.Set().All()) > 0 {
		t.Errorf("an optional file: %v, %v", k, err)
	}
	w.put("", "models.lock", "version = 9\n")
	if _, err := Open(Options{File: w.lockFile()}); err == nil || !strings.Contains(fmt.Sprint(err), "version is 9") {
		t.Errorf("another version: error is %v", err)
	}
}
