package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
)

// fileServer gives files of random bytes and counts what it sends.
type fileServer struct {
	*httptest.Server
	files map[string][]byte
	sent  atomic.Int64

	mu     sync.Mutex
	offset []int64 // of the parts that were asked for, but for the first byte alone
}

func newFileServer(t *testing.T, sizes ...int) *fileServer {
	t.Helper()
	s := &fileServer{files: map[string][]byte{}}
	for i, size := range sizes {
		data := make([]byte, size)
		_, _ = rand.NewChaCha8([32]byte{byte(i)}).Read(data)
		s.files[fmt.Sprintf("/file%d.pt", i)] = data
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *fileServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	data, known := s.files[r.URL.Path]
	if !known {
		http.NotFound(w, r)
		return
	}
	var from, to int64
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err == nil && to > from {
		s.mu.Lock()
		s.offset = append(s.offset, from)
		s.mu.Unlock()
	}
	w.Header().Set("ETag", `"x"`)
	http.ServeContent(countedWriter{w, &s.sent}, r, "", time.Time{}, bytes.NewReader(data))
}

// countedWriter hides what would copy past it.
type countedWriter struct {
	http.ResponseWriter
	n *atomic.Int64
}

func (c countedWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n.Add(int64(n))
	return n, err
}

// lock writes a models.lock of all files.
func (s *fileServer) lock(t *testing.T, dir string) string {
	t.Helper()
	lock := &models.Lock{}
	for path, data := range s.files {
		sum, err := models.HashPieces(t.Context(), bytes.NewReader(data), nil)
		if err != nil {
			t.Fatal(err)
		}
		lock.Set(models.Entry{Name: "vae" + path, Size: sum.Size, SHA256: sum.SHA256, Sources: []string{s.URL + path}})
	}
	file := filepath.Join(dir, "models.lock")
	if err := models.WriteLock(file, lock); err != nil {
		t.Fatal(err)
	}
	return file
}

// process is a comfyrun of its own: the test program under that name.
func startProcess(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "comfyrun")
	if err := os.Symlink(program, name); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(name, args...)
	stderr := &bytes.Buffer{}
	cmd.Stderr = stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return cmd, stderr
}

// A fetch that is killed ten times at random moments goes on each time: it asks for no piece that was complete, and nothing has the
// file's name before all of it is there.
func TestFetchSurvivesKills(t *testing.T) {
	s := newFileServer(t, 16*models.PieceSize+99)
	dir := t.TempDir()
	home := filepath.Join(dir, "home")
	args := []string{"models", "fetch", "--home", home, "--lock", s.lock(t, dir), "--connections", "2", "--rate", "90MB"}
	name := filepath.Join(home, "models", "vae", "file0.pt")
	kills := 0
	for ; kills < 10; kills++ {
		before := journaled(t, home)
		s.forget()
		cmd, _ := startProcess(t, args...)
		ended := make(chan struct{})
		go func() { _ = cmd.Wait(); close(ended) }()
		some := rand.N(int64(models.PieceSize)) // before a piece is there
		if kills%2 == 1 {
			some += 3 * models.PieceSize // when at least one is there, for two come at a time
		}
		s.send(some, ended)
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Fatal(err)
		}
		<-ended
		s.noneAgain(t, before)
		if _, err := os.Stat(name); err == nil {
			break
		}
	}
	before := journaled(t, home)
	s.forget()
	cmd, stderr := startProcess(t, args...)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	s.noneAgain(t, before)
	if data, err := os.ReadFile(name); err != nil || !bytes.Equal(data, s.files["/file0.pt"]) {
		t.Errorf("the file has %d bytes, %v", len(data), err)
	}
	t.Logf("%d kills, %d pieces were there before the last run", kills, len(before))
	if kills < 5 || len(before) == 0 {
		t.Errorf("%d kills and %d pieces before the last run: too few to tell anything", kills, len(before))
	}
}

// journaled gives the pieces that an unfinished download has.
func journaled(t *testing.T, home string) map[int64]bool {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(home, "blobs", "partial", "*.done"))
	if err != nil || len(found) == 0 {
		return nil
	}
	text, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	pieces := map[int64]bool{}
	for line := range strings.Lines(string(text)) {
		var index int64
		if _, err := fmt.Sscan(line, &index); err == nil && strings.HasSuffix(line, "\n") && len(line) > 64 {
			pieces[index] = true
		}
	}
	return pieces
}

// send waits until the server has sent so many bytes more, or a process has ended.
func (s *fileServer) send(n int64, ended <-chan struct{}) {
	for end := s.sent.Load() + n; s.sent.Load() < end; {
		select {
		case <-ended:
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// forget forgets which parts were asked for.
func (s *fileServer) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.offset = nil
}

func (s *fileServer) noneAgain(t *testing.T, before map[int64]bool) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, offset := range s.offset {
		if before[offset/models.PieceSize] {
			t.Errorf("piece %d was complete and is asked for again", offset/models.PieceSize)
		}
	}
}

// Four processes that want the same files download each byte once.
func TestFourProcessesFetchOnce(t *testing.T) {
	s := newFileServer(t, 3*models.PieceSize, models.PieceSize+5, 2*models.PieceSize)
	dir := t.TempDir()
	args := []string{"models", "fetch", "--home", filepath.Join(dir, "home"), "--lock", s.lock(t, dir), "--rate", "80MB"}
	var cmds []*exec.Cmd
	for range 4 {
		cmd, stderr := startProcess(t, args...)
		cmds = append(cmds, cmd)
		defer func() {
			if t.Failed() {
				_, _ = io.Copy(os.Stderr, stderr)
			}
		}()
	}
	for _, cmd := range cmds {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	total := int64(0)
	for path, data := range s.files {
		got, err := os.ReadFile(filepath.Join(dir, "home", "models", "vae", path))
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s has %d bytes, %v", path, len(got), err)
		}
		total += int64(len(data)) + 1 // and the byte that tells the size
	}
	if sent := s.sent.Load(); sent > total {
		t.Errorf("%d bytes were sent, want %d", sent, total)
	}
}
