//go:build s3

package s3

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
)

// These tests talk to real servers, which make tools builds into bin/tools.

var keys = Keys{ID: "comfyrun-test", Secret: "comfyrun-test-secret"}

// product is a server of object storage.
type product struct {
	name string
	args func(address, dir string) []string
	env  []string
}

var products = []product{
	{"minio", func(address, dir string) []string { return []string{"server", "--quiet", "--address", address, dir} },
		[]string{"MINIO_ROOT_USER=" + keys.ID, "MINIO_ROOT_PASSWORD=" + keys.Secret, "MINIO_BROWSER=off"}},
	{"versitygw", func(address, dir string) []string { return []string{"--port", address, "--quiet", "posix", dir} },
		[]string{"ROOT_ACCESS_KEY=" + keys.ID, "ROOT_SECRET_KEY=" + keys.Secret}},
}

// start runs a server with an empty folder until the test ends.
func (p product) start(t testing.TB, dir string) *Storage {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	var output bytes.Buffer
	cmd := exec.Command(filepath.Join("..", "..", "..", "bin", "tools", p.name), p.args(address, dir)...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s, which make tools builds: %v", p.name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	s := &Storage{Options: Options{Endpoint: "http://" + address, Keys: &keys}}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if err = s.makeBucket(t.Context(), "models"); err == nil {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer: %v\n%s", p.name, err, output.String())
		}
	}
}

func (s *Storage) makeBucket(ctx context.Context, name string) error {
	_, c, err := s.open("s3://" + name + "/x")
	if err != nil {
		return err
	}
	return c.MakeBucket(ctx, name, minio.MakeBucketOptions{})
}

func each(t *testing.T, test func(t *testing.T, s *Storage)) {
	for _, p := range products {
		t.Run(p.name, func(t *testing.T) { test(t, p.start(t, t.TempDir())) })
	}
}

// writeRandom makes a file of random bytes and returns what identifies it.
func writeRandom(t testing.TB, file string, size int64) models.Sum {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	noise := rand.NewChaCha8([32]byte{byte(size)})
	block := make([]byte, 1<<20)
	for left := size; left > 0; left -= int64(len(block)) {
		block = block[:min(left, int64(len(block)))]
		_, _ = noise.Read(block)
		if _, err := f.Write(block); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := f.Seek(0, 0); err != nil {
		t.Fatal(err)
	}
	sum, err := models.HashPieces(t.Context(), f, nil)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// push puts a random file into the bucket and returns its entry.
func push(t testing.TB, s *Storage, size int64) models.Entry {
	t.Helper()
	file := filepath.Join(t.TempDir(), "x")
	sum := writeRandom(t, file, size)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	defer os.Remove(file) // large ones are not kept twice
	source, sent, err := s.Push(t.Context(), "s3://models/team", f, sum)
	if err != nil || !sent {
		t.Fatalf("push: %v, sent %v", err, sent)
	}
	if _, sent, err := s.Push(t.Context(), "s3://models/team", f, sum); err != nil || sent {
		t.Errorf("push again: %v, sent %v", err, sent)
	}
	return models.Entry{Name: "vae/x", Size: sum.Size, SHA256: sum.SHA256, Pieces: sum.Pieces.Digest(), Sources: []string{source}}
}

func fetcher(t testing.TB, s *Storage) *fetch.Fetcher {
	return &fetch.Fetcher{Store: &models.Store{Dir: t.TempDir()}, Sources: map[string]fetch.Source{"s3": s}, Pause: 10 * time.Millisecond}
}

func get(ctx context.Context, f *fetch.Fetcher, e models.Entry) error {
	plan, err := f.Plan(ctx, []models.Entry{e})
	if err != nil {
		return err
	}
	return f.Fetch(ctx, plan)
}

func TestPushAndFetch(t *testing.T) {
	each(t, func(t *testing.T, s *Storage) {
		for _, size := range []int64{0, 1, models.PieceSize, 90<<20 + 7} {
			e := push(t, s, size)
			f := fetcher(t, s)
			if err := get(t.Context(), f, e); err != nil {
				t.Fatal(err)
			}
			list, known := f.Store.Pieces(e)
			if size > models.PieceSize && !known {
				t.Error("the list of pieces did not come along")
			}
			if err := (models.Check{File: f.Store.Name(e), Entry: e, Pieces: list}).Verify(t.Context()); err != nil {
				t.Error(err)
			}
		}
		listed, err := s.List(t.Context(), "s3://models/team/")
		if err != nil || len(listed) != 8 {
			t.Errorf("List gives %d objects, %v; want 8", len(listed), err)
		}
		for _, o := range listed {
			if again, err := s.Stat(t.Context(), o.URL); err != nil || again != o {
				t.Errorf("%+v listed is %+v, %v", o, again, err)
			}
		}
	})
}

func TestRefusals(t *testing.T) {
	each(t, func(t *testing.T, s *Storage) {
		e := push(t, s, 1000)
		for _, tt := range []struct {
			name, source string
			options      Options
			want         string
		}{
			{"no bucket", "s3://nobody/x", s.Options, `there is no bucket "nobody"`},
			{"no object", "s3://models/nothing", s.Options, `there is no object "nothing" in bucket "models"`},
			{"wrong key", e.Sources[0], Options{Endpoint: s.Options.Endpoint, Keys: &Keys{ID: keys.ID, Secret: "wrong-secret"}}, "denies access with the credentials given"},
			{"no credentials", e.Sources[0], Options{Endpoint: s.Options.Endpoint, Anonymous: true}, "no credentials were found"},
			{"nobody there", "s3://models/x?endpoint=http://127.0.0.1:1", s.Options, "connection refused"},
		} {
			f := fetcher(t, &Storage{Options: tt.options})
			e := e
			e.Line, e.Sources = 9, []string{tt.source}
			err := get(t.Context(), f, e)
			if !errors.Is(err, models.ErrMissing) || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `line 9: model "vae/x"`) {
				t.Errorf("%s: error is %v, want %q", tt.name, err, tt.want)
			}
		}
	})
}

// An object that is replaced while it is read is noticed by its ETag.
func TestChangedObject(t *testing.T) {
	each(t, func(t *testing.T, s *Storage) {
		e := push(t, s, 1000)
		o, err := s.Stat(t.Context(), e.Sources[0])
		if err != nil {
			t.Fatal(err)
		}
		_, c, _ := s.open(e.Sources[0])
		other := strings.NewReader(strings.Repeat("x", 1000))
		if _, err := c.Client.PutObject(t.Context(), "models", "team/blobs/sha256/"+e.SHA256, other, 1000, minio.PutObjectOptions{}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Open(t.Context(), o, fetch.Range{Offset: 10, Length: 10}); !errors.Is(err, fetch.ErrChanged) {
			t.Errorf("error is %v, want ErrChanged", err)
		}
	})
}

// One server has wrong bytes under the right name, the other one the right ones.
func TestTwoServers(t *testing.T) {
	bad, good := products[0].start(t, t.TempDir()), products[1].start(t, t.TempDir())
	e := push(t, good, 40<<20)
	_, c, err := bad.open(e.Sources[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Client.PutObject(t.Context(), "models", "wrong", bytes.NewReader(make([]byte, 40<<20)), 40<<20, minio.PutObjectOptions{}); err != nil {
		t.Fatal(err)
	}
	e.Sources = []string{
		"s3://models/absent?endpoint=" + bad.Options.Endpoint,
		"s3://models/wrong?endpoint=" + bad.Options.Endpoint,
		strings.Replace(e.Sources[0], "?", "", 1) + "?endpoint=" + good.Options.Endpoint,
	}
	f := fetcher(t, &Storage{Options: Options{Keys: &keys}})
	if err := get(t.Context(), f, e); err != nil {
		t.Fatal(err)
	}
	if err := (models.Check{File: f.Store.Name(e), Entry: e}).Verify(t.Context()); err != nil {
		t.Error(err)
	}
}

// BenchmarkFetch compares a fetch, which hashes and syncs, with plain requests of the same ranges in turn. SIZE in bytes
// comes from COMFYRUN_BENCH_BYTES.
func BenchmarkFetch(b *testing.B) {
	size := int64(1 << 30)
	if text := os.Getenv("COMFYRUN_BENCH_BYTES"); text != "" {
		if _, err := fmt.Sscan(text, &size); err != nil {
			b.Fatal(err)
		}
	}
	for _, p := range products {
		b.Run(p.name, func(b *testing.B) {
			s := p.start(b, b.TempDir())
			e := push(b, s, size)
			b.ResetTimer()
			var plain, fetched, plainCPU, fetchedCPU time.Duration
			for range b.N {
				before := processorTime()
				plain += plainGet(b, s, e)
				plainCPU += processorTime() - before
				f := fetcher(b, s)
				start := time.Now()
				before = processorTime()
				if err := get(b.Context(), f, e); err != nil {
					b.Fatal(err)
				}
				fetched += time.Since(start)
				fetchedCPU += processorTime() - before
				os.RemoveAll(f.Store.Dir)
			}
			perGB := func(d time.Duration) float64 { return d.Seconds() / float64(b.N) / (float64(size) / 1e9) }
			b.ReportMetric(perGB(plainCPU), "plain-cpu-s/GB")
			b.ReportMetric(perGB(fetchedCPU), "fetch-cpu-s/GB")
			rate := func(d time.Duration) float64 { return float64(size) * float64(b.N) / 1e6 / d.Seconds() }
			b.ReportMetric(rate(plain), "plain-MB/s")
			b.ReportMetric(rate(fetched), "fetch-MB/s")
			b.ReportMetric(rate(fetched)/rate(plain), "ratio")
		})
	}
}

// processorTime is what this process has used.
func processorTime() time.Duration {
	var usage syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &usage) // it cannot fail with these arguments
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// plainGet reads the same ranges by as many requests at one time, writes them to a file, syncs it, and checks nothing.
func plainGet(b *testing.B, s *Storage, e models.Entry) time.Duration {
	b.Helper()
	start := time.Now()
	file, err := os.Create(filepath.Join(b.TempDir(), "plain"))
	if err != nil {
		b.Fatal(err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	o, err := s.Stat(b.Context(), e.Sources[0])
	if err != nil {
		b.Fatal(err)
	}
	indices, failed := make(chan int), make(chan error, 8)
	for range cap(failed) {
		go func() {
			var err error
			for i := range indices {
				if err == nil {
					err = plainPiece(b.Context(), s, o, file, i)
				}
			}
			failed <- err
		}()
	}
	for i := range models.PieceCount(e.Size) {
		indices <- i
	}
	close(indices)
	for range cap(failed) {
		if err := <-failed; err != nil {
			b.Fatal(err)
		}
	}
	if err := file.Sync(); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func plainPiece(ctx context.Context, s *Storage, o fetch.Object, file *os.File, i int) error {
	at, length := int64(i)*models.PieceSize, models.PieceLength(o.Size, i)
	body, err := s.Open(ctx, o, fetch.Range{Offset: at, Length: length})
	if err != nil {
		return err
	}
	defer body.Close()
	buf := make([]byte, 256<<10)
	for n := int64(0); n < length; {
		got, err := body.Read(buf)
		if _, err := file.WriteAt(buf[:got], at+n); err != nil {
			return err
		}
		if n += int64(got); err != nil && n < length {
			return err
		}
	}
	return nil
}
