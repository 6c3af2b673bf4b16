package weights

import (
	"context"
	"encoding/binary"
	"errors"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

const (
	f32Name   = "model_ema.decay"                                                           // a scalar
	conv      = "model.diffusion_model.input_blocks.0.0.weight"                             // F16 [32 4 3 3]
	bias      = "model.diffusion_model.input_blocks.0.0.bias"                               // F16 [32]
	positions = "cond_stage_model.transformer.text_model.embeddings.position_ids"           // I64 [1 77]
	tokens    = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight" // F16, more than one job
)

func openTiny(t *testing.T, list string) *File {
	t.Helper()
	f, err := Open(weightstest.Write(t, t.TempDir(), list))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// same returns a part that takes a tensor as it is.
func same(t *testing.T, f *File, name string) Part {
	t.Helper()
	i, ok := f.Tensor(name)
	if !ok {
		t.Fatalf("no tensor %q", name)
	}
	return Part{Name: "graph/" + name, Shape: i.Shape, From: []string{name}}
}

func (l Location) read(t *testing.T) []float32 {
	t.Helper()
	raw := l.bytes(t)
	out := make([]float32, len(raw)/4)
	for i := range out {
		out[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return out
}

func (l Location) bytes(t *testing.T) []byte {
	t.Helper()
	r, err := os.Open(l.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	raw := make([]byte, l.Length)
	if _, err := r.ReadAt(raw, l.Offset); err != nil {
		t.Fatal(err)
	}
	return raw
}

func locate(t *testing.T, c *Cache, f *File, parts ...Part) *Located {
	t.Helper()
	l, err := c.Locate(t.Context(), f, "unet", parts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// files lists the names in dir that are not folders.
func files(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if !e.IsDir() {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestLocateInPlace(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp32")
	dir := filepath.Join(t.TempDir(), "weights")
	l := locate(t, &Cache{Dir: dir}, f, same(t, f, conv), same(t, f, tokens))
	for _, name := range []string{conv, tokens} {
		i, _ := f.Tensor(name)
		if diff := cmp.Diff(Location{f.Path, i.Offset, i.Length}, l.ByName["graph/"+name]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the cache folder was made: %v", err)
	}
}

// sum adds conv and bias: a transform with several sources.
var sum = Transform{Name: "sum", Apply: func(dst []float32, src []*tensor.Tensor) error {
	for i := range dst {
		dst[i] = src[0].Data[i] + src[1].Data[i/36]
	}
	return nil
}}

func TestLocateConverts(t *testing.T) {
	for _, list := range []string{"sd15-tiny-fp16", "sd15-tiny-bf16", "sd15-tiny-fp32"} {
		for _, dir := range []string{"", t.TempDir()} {
			f := openTiny(t, list)
			rounded := same(t, f, tokens)
			rounded.Name, rounded.Transform = "rounded", RoundF16()
			l := locate(t, &Cache{Dir: dir}, f, same(t, f, f32Name), same(t, f, tokens), rounded, same(t, f, positions),
				Part{Name: "sum", Shape: tensor.Shape{32, 4, 3, 3}, From: []string{conv, bias}, Transform: &sum})
			if len(l.ByName) != 5 {
				t.Fatalf("%d locations, want 5: %v", len(l.ByName), l.ByName)
			}
			want := map[string][]float32{}
			for _, name := range []string{f32Name, tokens, positions, conv, bias} {
				v, err := f.Read(name)
				if err != nil {
					t.Fatal(err)
				}
				want["graph/"+name] = v.Data
			}
			for i, v := range want["graph/"+conv] {
				want["sum"] = append(want["sum"], v+want["graph/"+bias][i/36])
			}
			for _, v := range want["graph/"+tokens] {
				want["rounded"] = append(want["rounded"], tensor.F16ToF32(tensor.F32ToF16(v)))
			}
			for name, at := range l.ByName {
				if !slices.Equal(want[name], at.read(t)) {
					t.Errorf("%s, cache %q: %s differs", list, dir, name)
				}
			}
		}
	}
}

func TestTemporaryFileEndsWithClose(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	l := locate(t, &Cache{}, f, same(t, f, conv))
	path := l.ByName["graph/"+conv].Path
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

// counted is a transform that counts its calls.
func counted(name string, calls *atomic.Int64) *Transform {
	return &Transform{Name: name, Apply: func(dst []float32, src []*tensor.Tensor) error {
		calls.Add(1)
		copy(dst, src[0].Data)
		return nil
	}}
}

func TestLocateConvertsOnce(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	var calls atomic.Int64
	part := same(t, f, conv)
	part.Transform = counted("a", &calls)
	c := Cache{Dir: t.TempDir()}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			if _, err := (&Cache{Dir: c.Dir}).Locate(t.Context(), f, "unet", []Part{part}); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("converted %d times", n)
	}
	if names := files(t, c.Dir); len(names) != 1 {
		t.Errorf("files %v, want one", names)
	}
	part.Transform = counted("b", &calls)
	locate(t, &c, f, part)
	if n := calls.Load(); n != 2 {
		t.Errorf("another transform: converted %d times in all, want 2", n)
	}
}

// TestProcessesConvertOnce starts this test program several times at once; each
// notes its conversions in a file.
func TestProcessesConvertOnce(t *testing.T) {
	if source := os.Getenv("WEIGHTS_TEST_SOURCE"); source != "" {
		convertInChild(t, source)
		return
	}
	f := openTiny(t, "sd15-tiny-fp16")
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestProcessesConvertOnce$")
			child.Env = append(os.Environ(), "WEIGHTS_TEST_SOURCE="+f.Path, "WEIGHTS_TEST_DIR="+dir)
			if out, err := child.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	group.Wait()
	notes, err := os.ReadFile(filepath.Join(dir, "notes"))
	if err != nil || string(notes) != "converted\n" {
		t.Errorf("notes %q, %v", notes, err)
	}
}

func convertInChild(t *testing.T, source string) {
	f, err := Open(source)
	if err != nil {
		t.Fatal(err)
	}
	dir := os.Getenv("WEIGHTS_TEST_DIR")
	part := same(t, f, conv)
	part.Transform = &Transform{Name: "slow", Apply: func(dst []float32, src []*tensor.Tensor) error {
		time.Sleep(100 * time.Millisecond)
		copy(dst, src[0].Data)
		notes, err := os.OpenFile(filepath.Join(dir, "notes"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer notes.Close()
		_, err = notes.WriteString("converted\n")
		return err
	}}
	l := locate(t, &Cache{Dir: filepath.Join(dir, "cache")}, f, part)
	want, err := f.Read(conv)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(want.Data, l.ByName[part.Name].read(t)) {
		t.Error("the cached values differ")
	}
}

func TestDamagedCacheIsMadeAgain(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	var calls atomic.Int64
	part := same(t, f, conv)
	part.Transform = counted("a", &calls)
	c := Cache{Dir: t.TempDir()}
	l := locate(t, &c, f, part)
	path := l.ByName[part.Name].Path
	want := l.ByName[part.Name].read(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	otherShape := strings.Replace(string(whole), "[32,4,3,3]", "[32,4,9,1]", 1)
	for name, data := range map[string][]byte{
		"empty":       {},
		"truncated":   whole[:len(whole)-1],
		"too long":    append(whole[:len(whole):len(whole)], 0),
		"no header":   append(make([]byte, 100), whole[100:]...),
		"other shape": []byte(otherShape),
	} {
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		before := calls.Load()
		l := locate(t, &c, f, part)
		if calls.Load() != before+1 {
			t.Errorf("%s: not converted again", name)
		}
		if !slices.Equal(want, l.ByName[part.Name].read(t)) {
			t.Errorf("%s: values differ", name)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	part := same(t, f, conv)
	dir := t.TempDir()
	size := int64(0)
	use := func(component string, limit int64) *Located {
		t.Helper()
		l, err := (&Cache{Dir: dir, MaxBytes: limit}).Locate(t.Context(), f, component, []Part{part})
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Millisecond) // file times must differ
		return l
	}
	left := func() string {
		var out []string
		for _, name := range files(t, dir) {
			out = append(out, strings.Split(name, "-")[1])
		}
		return strings.Join(out, " ")
	}
	a := use("a", 0)
	if s, err := os.Stat(a.ByName[part.Name].Path); err == nil {
		size = s.Size()
	}
	use("b", 0).Close()
	use("c", 0).Close()
	a.Close()
	use("a", 0).Close() // b is now the oldest
	use("d", 3*size).Close()
	if got := left(); got != "a c d" {
		t.Errorf("left %q, want a c d", got)
	}
	c := use("c", 0)
	use("e", size).Close()
	if got := left(); got != "c e" {
		t.Errorf("c in use: left %q, want c e", got)
	}
	c.Close()
	use("f", 1).Close()
	if got := left(); got != "f" {
		t.Errorf("left %q, want f alone", got)
	}
}

func TestAbandonedFilesGo(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	dir := t.TempDir()
	old, young := filepath.Join(dir, "x"+tempMark+"1"), filepath.Join(dir, "x"+tempMark+"2")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chtimes(old, time.Time{}, time.Now().Add(-2*abandoned)); err != nil {
		t.Fatal(err)
	}
	locate(t, &Cache{Dir: dir}, f, same(t, f, conv))
	if names := files(t, dir); len(names) != 2 || names[1] != filepath.Base(young) {
		t.Errorf("files %v", names)
	}
}

func TestReadOnlyCache(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Log("root may write everywhere: this checks less than it does for others")
	}
	f := openTiny(t, "sd15-tiny-fp16")
	dir := t.TempDir()
	locate(t, &Cache{Dir: dir}, f, same(t, f, conv)).Close()
	for _, d := range []string{dir, filepath.Join(dir, "digests")} {
		if err := os.Chmod(d, 0o555); err != nil {
			t.Fatal(err)
		}
		defer os.Chmod(d, 0o755)
	}
	locate(t, &Cache{Dir: dir}, f, same(t, f, conv))
}

func TestFailureLeavesNothing(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	ctx, cancel := context.WithCancel(t.Context())
	failures := []struct {
		want error
		fail func() error
	}{
		{unix.ENOSPC, func() error { return unix.ENOSPC }},
		{context.Canceled, func() error { cancel(); return nil }},
	}
	for _, tt := range failures {
		part := same(t, f, conv)
		part.Transform = &Transform{Name: "fails", Apply: func([]float32, []*tensor.Tensor) error { return tt.fail() }}
		parts := []Part{part, same(t, f, tokens), same(t, f, bias)}
		c := Cache{Dir: t.TempDir()}
		_, err := c.Locate(ctx, f, "unet", parts)
		if !errors.Is(err, tt.want) {
			t.Errorf("got %v, want %v", err, tt.want)
		}
		p, err := newPlan(f, parts)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.temporaryIn(ctx, c.Dir); !errors.Is(err, tt.want) {
			t.Errorf("without a cache: got %v, want %v", err, tt.want)
		}
		if left := files(t, c.Dir); len(left) > 0 {
			t.Errorf("%v leaves %v", tt.want, left)
		}
	}
}

func TestReserveNamesTheFolder(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = reserve(f, 1<<60)
	if !errors.Is(err, unix.ENOSPC) || !strings.Contains(err.Error(), filepath.Dir(f.Name())) {
		t.Errorf("got %v", err)
	}
}

func TestCanceledBeforeTheStart(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := Cache{Dir: t.TempDir()}
	if _, err := c.Locate(ctx, f, "unet", []Part{same(t, f, tokens)}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestLocateRefuses(t *testing.T) {
	f := openTiny(t, "sd15-tiny-fp16")
	good := same(t, f, conv)
	tests := []struct {
		want, component string
		parts           []Part
	}{
		{`no tensor "none"`, "unet", []Part{{Name: "x", From: []string{"none"}}}},
		{`"graph/` + conv + `" is wanted twice`, "unet", []Part{good, good}},
		{"has no source", "unet", []Part{{Name: "x"}}},
		{"takes one source", "unet", []Part{{Name: "x", From: []string{conv, bias}}}},
		{"shape [32] does not hold the elements", "unet", []Part{{Name: "x", Shape: tensor.Shape{32}, From: []string{conv}}}},
		{`component "../x"`, "../x", []Part{good}},
	}
	c := Cache{Dir: t.TempDir()}
	for _, tt := range tests {
		_, err := c.Locate(t.Context(), f, tt.component, tt.parts)
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("got %v, want the file and %q", err, tt.want)
		}
	}
}
