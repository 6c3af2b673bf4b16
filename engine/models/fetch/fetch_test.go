package fetch

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
)

// content is what the tests fetch: three pieces, the last one short.
var content = func() []byte {
	data := make([]byte, 2*models.PieceSize+12345)
	rand.NewChaCha8([32]byte{1}).Read(data)
	return data
}()

// server gives content at every path, spoiled as its fields say.
type server struct {
	*httptest.Server
	data     []byte
	noRanges bool
	spoil    func(w http.ResponseWriter, r *http.Request) bool // answers itself when it returns true
	write    func(w io.Writer, r *http.Request, at int64) io.Writer
	etag     atomic.Value
	requests atomic.Int64
	sent     atomic.Int64
	open     atomic.Int64 // requests that are being answered
}

func serve(t *testing.T, data []byte) *server {
	t.Helper()
	s := &server{data: data}
	s.etag.Store(`"one"`)
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, ".pieces") {
		s.pieces(w, r)
		return
	}
	s.open.Add(1)
	defer s.open.Add(-1)
	s.requests.Add(1)
	if s.spoil != nil && s.spoil(w, r) {
		return
	}
	w.Header().Set("ETag", s.etag.Load().(string))
	if s.noRanges {
		r.Header.Del("Range")
	}
	at := int64(0)
	fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &at)
	out := io.Writer(w)
	if s.write != nil {
		out = s.write(w, r, at)
	}
	http.ServeContent(counting{w, out, &s.sent}, r, "", time.Time{}, bytes.NewReader(s.data))
}

// pieces gives the list, which takes a while to make.
func (s *server) pieces(w http.ResponseWriter, _ *http.Request) { w.Write(contentPieces()) }

var contentPieces = sync.OnceValue(func() []byte {
	sum, _ := models.HashPieces(context.Background(), bytes.NewReader(content), nil)
	return sum.Pieces.Text()
})

type counting struct {
	http.ResponseWriter
	out  io.Writer
	sent *atomic.Int64
}

func (c counting) Write(p []byte) (int, error) {
	n, err := c.out.Write(p)
	c.sent.Add(int64(n))
	return n, err
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func pin(t *testing.T, data []byte, pieces bool, servers ...*server) models.Entry {
	t.Helper()
	sum, err := models.HashPieces(t.Context(), bytes.NewReader(data), nil)
	if err != nil {
		t.Fatal(err)
	}
	e := models.Entry{Name: "vae/x.safetensors", Size: sum.Size, SHA256: sum.SHA256, Line: 4}
	if pieces {
		e.Pieces = sum.Pieces.Digest()
	}
	for _, s := range servers {
		e.Sources = append(e.Sources, s.URL+"/x")
	}
	return e
}

func newFetcher(t *testing.T) *Fetcher {
	t.Helper()
	transport, err := NewTransport("")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(transport.CloseIdleConnections)
	web := &Web{Client: NewClient(transport)}
	return &Fetcher{
		Store:   &models.Store{Dir: t.TempDir()},
		Sources: map[string]Source{"http": web, "https": web, "file": Files{}},
		Pause:   time.Millisecond,
	}
}

func get(ctx context.Context, f *Fetcher, entries ...models.Entry) error {
	plan, err := f.Plan(ctx, entries)
	if err != nil {
		return err
	}
	return f.Fetch(ctx, plan)
}

// check fails unless the store has the entry's content under its name, and no partial file.
func check(t *testing.T, f *Fetcher, e models.Entry, want []byte) {
	t.Helper()
	got, err := os.ReadFile(f.Store.Name(e))
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s holds %d bytes, %v; want the %d of the source", f.Store.Name(e), len(got), err, len(want))
	}
	if left, _ := filepath.Glob(f.Store.Partial(e) + "*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFetch(t *testing.T) {
	for _, size := range []int{0, 1, models.PieceSize - 1, models.PieceSize, models.PieceSize + 1, len(content)} {
		for _, ranges := range []bool{true, false} {
			t.Run(fmt.Sprint(size, ranges), func(t *testing.T) {
				s := serve(t, content[:size])
				s.noRanges = !ranges
				f, e := newFetcher(t), pin(t, content[:size], false, s)
				if err := get(t.Context(), f, e); err != nil {
					t.Fatal(err)
				}
				check(t, f, e, content[:size])
				before := s.requests.Load()
				if err := get(t.Context(), f, e); err != nil || s.requests.Load() != before {
					t.Errorf("a second time: %v, %d requests", err, s.requests.Load()-before)
				}
			})
		}
	}
}

// Each server misbehaves; the first source is it, the second one, where there is one, is sound.
func TestFetchThroughFaults(t *testing.T) {
	flip := func(w io.Writer, _ *http.Request, _ int64) io.Writer {
		return writerFunc(func(p []byte) (int, error) {
			q := bytes.Clone(p)
			q[len(q)/2] ^= 4
			return w.Write(q)
		})
	}
	cut := func(left *atomic.Int64) func(io.Writer, *http.Request, int64) io.Writer {
		return func(w io.Writer, _ *http.Request, _ int64) io.Writer {
			room := 64<<10 + rand.IntN(64<<10) // more than a write: something comes each time, or it would be given up
			return writerFunc(func(p []byte) (int, error) {
				if room -= len(p); room < 0 && left.Add(-1) >= 0 {
					panic(http.ErrAbortHandler)
				}
				return w.Write(p)
			})
		}
	}
	status := func(code, times int) func(http.ResponseWriter, *http.Request) bool {
		var n atomic.Int64
		return func(w http.ResponseWriter, r *http.Request) bool {
			if int(n.Add(1)) > times {
				return false
			}
			w.WriteHeader(code)
			return true
		}
	}
	cuts := &atomic.Int64{}
	cuts.Store(200)
	for _, tt := range []struct {
		name   string
		spoil  func(*server)
		second bool
		pieces bool
		want   string // in the error; "" for none
		kind   error
	}{
		{"cut 200 times", func(s *server) { s.write = cut(cuts) }, false, true, "", nil},
		{"cut without list", func(s *server) { c := &atomic.Int64{}; c.Store(50); s.write = cut(c) }, false, false, "", nil},
		{"flipped bits", func(s *server) { s.write = flip }, true, true, "", nil},
		{"flipped bits, no list", func(s *server) { s.write = flip }, true, false, "", nil},
		{"flipped bits only", func(s *server) { s.write = flip }, false, true, "piece", models.ErrDigest},
		{"flipped bits only, no list", func(s *server) { s.write = flip }, false, false, "sha256 is", models.ErrDigest},
		{"other object", func(s *server) { s.data = bytes.Repeat([]byte{7}, len(content)) }, true, true, "", nil},
		{"other object, no ranges", func(s *server) { s.data, s.noRanges = bytes.Repeat([]byte{7}, len(content)), true }, true, true, "", nil},
		{"other size", func(s *server) { s.data = content[:100] }, true, true, "", nil},
		{"other size only", func(s *server) { s.data = content[:100] }, false, true, "it has 100 bytes, want 33566777", models.ErrDigest},
		{"503 storm", func(s *server) { s.spoil = status(503, 6) }, false, true, "", nil},
		{"429", func(s *server) { s.spoil = status(429, 3) }, false, true, "", nil},
		{"503 for ever", func(s *server) { s.spoil = status(503, 1e9) }, false, true, "503 Service Unavailable", models.ErrMissing},
		{"503 for ever, second", func(s *server) { s.spoil = status(503, 1e9) }, true, true, "", nil},
		{"404", func(s *server) { s.spoil = status(404, 1e9) }, false, true, "404 Not Found", models.ErrMissing},
		{"403", func(s *server) { s.spoil = status(403, 1e9) }, false, true, "403 Forbidden: it wants credentials", models.ErrMissing},
		{"changed", func(s *server) {
			s.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
				if s.requests.Load() > 2 {
					s.etag.Store(`"two"`)
				}
				return false
			}
		}, false, true, `the object changed during the download: its version was "one" and is "two"`, ErrChanged},
		{"changed, second", func(s *server) {
			s.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
				if s.requests.Load() > 2 {
					s.etag.Store(`"two"`)
				}
				return false
			}
		}, true, false, "", nil},
		{"no ranges, cut", func(s *server) {
			s.noRanges = true
			c := &atomic.Int64{}
			c.Store(3)
			s.write = cut(c)
		}, false, true, "", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			bad := serve(t, content)
			tt.spoil(bad)
			servers := []*server{bad}
			if tt.second {
				servers = append(servers, serve(t, content))
			}
			f, e := newFetcher(t), pin(t, content, tt.pieces, servers...)
			err := get(t.Context(), f, e)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				check(t, f, e, content)
				return
			}
			if err == nil || !errors.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `line 4: model "vae/x.safetensors"`) {
				t.Errorf("error is %v, want %v with %q", err, tt.kind, tt.want)
			}
			if _, err := os.Lstat(f.Store.Blob(e)); err == nil {
				t.Error("there is a blob")
			}
			if _, err := os.Lstat(f.Store.Name(e)); err == nil {
				t.Error("there is a file of the name")
			}
		})
	}
	t.Cleanup(func() {
		if cuts.Load() > 0 {
			t.Errorf("only %d of 200 connections were cut", 200-cuts.Load())
		}
	})
}

// A connection on which nothing comes is followed by another, as often as it takes.
func TestFetchThroughStall(t *testing.T) {
	const stalls = 3
	s := serve(t, content)
	var stalled atomic.Int64
	s.write = func(w io.Writer, r *http.Request, at int64) io.Writer {
		return writerFunc(func(p []byte) (int, error) {
			if at > 0 && stalled.Add(1) <= stalls {
				<-r.Context().Done()
			}
			return w.Write(p)
		})
	}
	f, e := newFetcher(t), pin(t, content, true, s)
	f.Stall, f.Tries = 200*time.Millisecond, 1e6 // a slow machine stalls too
	var told atomic.Int64
	f.Events = func(e Event) {
		if e.Kind == EventRetry && strings.Contains(e.Text, errStalled.Error()) {
			told.Add(1)
		}
	}
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content)
	if stalled.Load() < stalls || told.Load() < stalls {
		t.Errorf("%d stalls, of %d was told", stalled.Load(), told.Load())
	}
}

func TestFetchGoesOn(t *testing.T) {
	s := serve(t, content)
	f, e := newFetcher(t), pin(t, content, true, s)
	f.Connections = 1
	ctx, cancel := context.WithCancel(t.Context())
	f.Events = func(e Event) {
		if e.Kind == EventBytes && s.sent.Load() > models.PieceSize+1000 {
			cancel() // in the second piece
		}
	}
	if err := get(ctx, f, e); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v, want canceled", err)
	}
	if _, err := os.Stat(f.Store.Name(e)); err == nil {
		t.Error("the unfinished file has its name")
	}
	plan, err := f.Plan(t.Context(), []models.Entry{e})
	if err != nil || plan.Bytes != e.Size-models.PieceSize {
		t.Errorf("plan is %+v, %v; want %d bytes", plan, err, e.Size-models.PieceSize)
	}
	for s.open.Load() > 0 { // until the server has noticed that the connection was closed
		time.Sleep(time.Millisecond)
	}
	before := s.sent.Load()
	f.Events = nil
	if err := f.Fetch(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content)
	if sent := s.sent.Load() - before; sent > e.Size-models.PieceSize+10 {
		t.Errorf("%d bytes were sent again, want the %d of the other pieces", sent, e.Size-models.PieceSize)
	}
}

// What a journal says is believed only when the bytes are there.
func TestFetchDistrustsTheJournal(t *testing.T) {
	for _, pieces := range []bool{true, false} {
		s := serve(t, content)
		f, e := newFetcher(t), pin(t, content, pieces, s)
		part := f.Store.Partial(e)
		if err := os.MkdirAll(filepath.Dir(part), 0o755); err != nil {
			t.Fatal(err)
		}
		wrong := bytes.Clone(content)
		wrong[5] ^= 1 // journaled as it is, so that only the entry shows it
		lines := ""
		for i := range 2 {
			sum := sha256.Sum256(wrong[i*models.PieceSize : (i+1)*models.PieceSize])
			lines += fmt.Sprintf("%d %x\n", i, sum)
		}
		lines += "7 zz\n2 " + strings.Repeat("0", 64) + "\n1 ab"
		if err := errors.Join(os.WriteFile(part, wrong, 0o644), os.WriteFile(part+".done", []byte(lines), 0o644)); err != nil {
			t.Fatal(err)
		}
		if err := get(t.Context(), f, e); err != nil {
			t.Fatal(err)
		}
		check(t, f, e, content)
	}
}

func TestFetchOnce(t *testing.T) {
	s := serve(t, content)
	e := pin(t, content, true, s)
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 4 {
		f := newFetcher(t)
		f.Store.Dir = dir
		group.Go(func() {
			if err := get(t.Context(), f, e); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if sent := s.sent.Load(); sent > e.Size+10 {
		t.Errorf("%d bytes were sent for a file of %d", sent, e.Size)
	}
}

func TestTwoNamesAreOneBlob(t *testing.T) {
	s := serve(t, content)
	f, a := newFetcher(t), pin(t, content, true, s)
	b := a
	b.Name = "vae/sub/y.safetensors"
	if err := get(t.Context(), f, a, b); err != nil {
		t.Fatal(err)
	}
	check(t, f, a, content)
	check(t, f, b, content)
	if s.sent.Load() > a.Size+10 {
		t.Errorf("%d bytes were sent for one blob", s.sent.Load())
	}
}

func TestAdopt(t *testing.T) {
	f := newFetcher(t)
	root := t.TempDir()
	file := filepath.Join(root, "vae", "other-name.pt")
	if err := errors.Join(os.Mkdir(filepath.Dir(file), 0o755), os.WriteFile(file, content, 0o644)); err != nil {
		t.Fatal(err)
	}
	e := pin(t, content, false)
	e.Sources = []string{"https://127.0.0.1:1/never"}
	f.Folders = models.NewFolders([]string{root})
	plan, err := f.Plan(t.Context(), []models.Entry{e})
	if err != nil || plan.Items[0].Action != ActionAdopt || plan.Bytes != 0 {
		t.Fatalf("plan is %+v, %v", plan, err)
	}
	if err := f.Fetch(t.Context(), plan); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content)
	if target, err := os.Readlink(f.Store.Blob(e)); err != nil || target != file {
		t.Errorf("the blob leads to %q, %v", target, err)
	}
	// Without the file the store has not got it any more.
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s := serve(t, content)
	e.Sources = []string{s.URL + "/x"}
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content)
}

// counted is a source that counts the requests at one time.
type counted struct {
	Source
	now, most *atomic.Int64
}

func (c counted) Open(ctx context.Context, o Object, r Range) (io.ReadCloser, error) {
	for now := c.now.Add(1); ; {
		if most := c.most.Load(); now <= most || c.most.CompareAndSwap(most, now) {
			break
		}
	}
	body, err := c.Source.Open(ctx, o, r)
	if err != nil {
		c.now.Add(-1)
		return nil, err
	}
	return countedBody{body, c.now}, nil
}

type countedBody struct {
	io.ReadCloser
	now *atomic.Int64
}

func (b countedBody) Close() error {
	defer b.now.Add(-1)
	return b.ReadCloser.Close()
}

func TestRateAndConnections(t *testing.T) {
	s := serve(t, content)
	var now, most atomic.Int64
	f, e := newFetcher(t), pin(t, content, true, s)
	f.Sources["http"] = counted{f.Sources["http"], &now, &most}
	f.Connections, f.Rate = 2, 32<<20
	start := time.Now()
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < 900*time.Millisecond {
		t.Errorf("32 MiB at 32 MiB/s took %v", took)
	}
	if most.Load() != 2 || now.Load() != 0 {
		t.Errorf("%d requests at one time, want 2; %d are open", most.Load(), now.Load())
	}
}

func TestSpace(t *testing.T) {
	f, e := newFetcher(t), pin(t, content, true)
	e.Size, e.Sources = 1<<60, []string{"https://127.0.0.1:1/x"}
	err := get(t.Context(), f, e)
	if !errors.Is(err, ErrSpace) || !strings.Contains(err.Error(), `line 4: model "vae/x.safetensors"`) {
		t.Errorf("error is %v, want ErrSpace", err)
	}
}

func TestHub(t *testing.T) {
	s := serve(t, content[:1000])
	var paths, tokens []string
	s.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		paths, tokens = append(paths, r.URL.Path), append(tokens, r.Header.Get("Authorization"))
		return false
	}
	f, e := newFetcher(t), pin(t, content[:1000], true)
	f.Sources["hf"] = &Hub{Web: *f.Sources["http"].(*Web), Endpoint: s.URL, Token: "secret"}
	e.Sources = []string{"hf://owner/repo@0123abc/sub/x.safetensors"}
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	if paths[0] != "/owner/repo/resolve/0123abc/sub/x.safetensors" || tokens[0] != "Bearer secret" {
		t.Errorf("asked for %v with %v", paths, tokens)
	}
	for _, source := range []string{"hf://owner/repo/x", "hf://repo@r/x", "hf://owner/repo@/x", "hf://owner/repo@r/", "hf://owner/repo@r"} {
		if _, err := f.Sources["hf"].Stat(t.Context(), source); err == nil {
			t.Errorf("%s is taken", source)
		}
	}
}

func TestFileSourceAndHash(t *testing.T) {
	file := filepath.Join(t.TempDir(), "a b.pt")
	if err := os.WriteFile(file, content, 0o644); err != nil {
		t.Fatal(err)
	}
	source, err := FileURL(file)
	if err != nil {
		t.Fatal(err)
	}
	f, e := newFetcher(t), pin(t, content, true)
	e.Sources = []string{source}
	sum, err := f.Hash(t.Context(), source, nil)
	if err != nil || sum.SHA256 != e.SHA256 || sum.Pieces.Digest() != e.Pieces {
		t.Errorf("Hash gives %+v, %v", sum, err)
	}
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content)
	for _, bad := range []string{"file://host/x", "file:x", "file:///no/such/file"} {
		if _, err := f.Sources["file"].Stat(t.Context(), bad); err == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

func TestHashThroughCuts(t *testing.T) {
	s := serve(t, content)
	var left atomic.Int64
	left.Store(20)
	s.write = func(w io.Writer, _ *http.Request, _ int64) io.Writer {
		room := 1_500_000
		return writerFunc(func(p []byte) (int, error) {
			if room -= len(p); room < 0 && left.Add(-1) >= 0 {
				panic(http.ErrAbortHandler)
			}
			return w.Write(p)
		})
	}
	f := newFetcher(t)
	sum, err := f.Hash(t.Context(), s.URL+"/x", nil)
	want := sha256.Sum256(content)
	if err != nil || sum.SHA256 != hex.EncodeToString(want[:]) || left.Load() >= 0 {
		t.Errorf("Hash gives %s, %v, with %d cuts to come", sum.SHA256, err, left.Load())
	}
}

func TestCertificates(t *testing.T) {
	s := &server{data: content[:1000]}
	s.etag.Store(`"one"`)
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	file := filepath.Join(t.TempDir(), "ca.pem")
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, block, 0o644); err != nil {
		t.Fatal(err)
	}
	f, e := newFetcher(t), pin(t, content[:1000], true, s)
	if err := get(t.Context(), f, e); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its certificate: error is %v", err)
	}
	transport, err := NewTransport(file)
	if err != nil {
		t.Fatal(err)
	}
	f.Sources["https"] = &Web{Client: NewClient(transport)}
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	check(t, f, e, content[:1000])
	for _, bad := range []string{filepath.Join(t.TempDir(), "absent"), "fetch_test.go"} {
		if _, err := NewTransport(bad); err == nil {
			t.Errorf("%s is taken for certificates", bad)
		}
	}
}

// A token goes to the endpoint alone, not to where that redirects; and https does not lead to http.
func TestRedirections(t *testing.T) {
	var token atomic.Value
	elsewhere := serve(t, content[:1000])
	elsewhere.spoil = func(_ http.ResponseWriter, r *http.Request) bool {
		token.Store(r.Header.Get("Authorization"))
		return false
	}
	hub := httptest.NewServer(http.RedirectHandler(strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)+"/x", http.StatusFound))
	t.Cleanup(hub.Close)
	f, e := newFetcher(t), pin(t, content[:1000], true)
	f.Sources["hf"] = &Hub{Web: *f.Sources["http"].(*Web), Endpoint: hub.URL, Token: "secret"}
	e.Sources = []string{"hf://owner/repo@r/x"}
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	if token.Load() != "" {
		t.Errorf("the token went elsewhere: %q", token.Load())
	}
	secure := httptest.NewTLSServer(http.RedirectHandler(elsewhere.URL+"/x", http.StatusFound))
	t.Cleanup(secure.Close)
	web := &Web{Client: NewClient(secure.Client().Transport)}
	if _, err := web.Stat(t.Context(), secure.URL); err == nil || !strings.Contains(err.Error(), "redirected from https") {
		t.Errorf("from https to http: error is %v", err)
	}
}
