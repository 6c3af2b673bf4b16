package diffusion

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// BenchmarkLoRA measures, on the networks of SD 1.5 with real widths, what LoRA
// files of rank 32 over all attention and feed-forward layers cost: a step's
// processor time beside that without, taken in turn, and the time from other strengths to
// the first operator, for products beside the weights and for weights merged
// into temporary memory and into a file of the cache. The variables are those
// of BenchmarkFull.
func BenchmarkLoRA(b *testing.B) {
	dir := os.Getenv("COMFYRUN_BENCH_DIR")
	if dir == "" {
		dir = b.TempDir()
	}
	threads, _ := strconv.Atoi(os.Getenv("COMFYRUN_BENCH_THREADS"))
	path, err := weightstest.WriteFile(dir, "sd15-full-fp16")
	if err != nil {
		b.Fatal(err)
	}
	library := orttest.Library(b)
	r, err := Open(Options{
		Library: func() (string, error) { return library, nil }, Threads: max(threads, 1),
		Cache: &weights.Cache{Dir: filepath.Join(dir, "weights")},
	})
	if err != nil {
		b.Fatal(err)
	}
	model, clip, _, err := r.LoadCheckpoint(context.Background(), path)
	if err != nil {
		b.Fatal(err)
	}
	lb := &loraBench{B: b, runtime: r, model: model, clip: clip}
	for i := range 3 {
		lb.files = append(lb.files, lb.load(i, 32))
	}
	for _, size := range []int{256, 512} {
		for _, stack := range []int{1, 3} {
			b.Run(fmt.Sprintf("step/%d/stack=%d", size, stack), func(b *testing.B) { lb.step(b, size/8, stack) })
		}
	}
	b.Run("change/branches", func(b *testing.B) { lb.change(b, false) })
	b.Run("change/merged", func(b *testing.B) { lb.change(b, true) })
	b.Run("change/cached", lb.cached)
	b.Run("change/text-branches", func(b *testing.B) { lb.text(b, func(s step) step { return s }) })
	b.Run("change/text-merged", func(b *testing.B) { lb.text(b, merged) })
}

// loraBench is what the parts of BenchmarkLoRA share.
type loraBench struct {
	*testing.B
	runtime *Runtime
	model   *Model
	clip    *CLIP
	files   []*LoRA
}

// load writes a LoRA file of the given rank in kohya's layout.
func (l *loraBench) load(seed, rank int) *LoRA {
	path := filepath.Join(l.TempDir(), fmt.Sprintf("lora-%d.safetensors", seed))
	wanted := regexp.MustCompile(`\.(attn\d\.to_(q|k|v|out\.0)|ff\.net\.(0\.proj|2)|mlp\.fc\d|self_attn\.\w+_proj)\.weight$`)
	w := writer{rng: rand.New(rand.NewPCG(uint64(seed), 1))}
	add := func(prefix string, c *component) {
		for _, name := range c.weights.Names() {
			if !wanted.MatchString(name) {
				continue
			}
			src, _ := c.weights.Lookup(name)
			base := prefix + strings.ReplaceAll(strings.TrimSuffix(name, ".weight"), ".", "_")
			w.add(base+".lora_up.weight", src.Shape[0], rank)
			w.add(base+".lora_down.weight", rank, src.Shape[1])
		}
	}
	add("lora_unet_", l.model.unet)
	add("lora_te_", l.clip.towers[0].net)
	if err := os.WriteFile(path, w.bytes(l.B), 0o600); err != nil {
		l.Fatal(err)
	}
	file, err := l.runtime.LoadLoRA(context.Background(), path)
	if err != nil {
		l.Fatal(err)
	}
	if ignored := file.Ignored(l.model, l.clip); len(ignored) > 0 {
		l.Fatalf("not used: %s", ignored)
	}
	return file
}

// writer collects a .safetensors file of random halves.
type writer struct {
	rng    *rand.Rand
	header map[string]any
	data   bytes.Buffer
}

func (w *writer) add(name string, shape ...int) {
	begin := w.data.Len()
	for range tensor.Shape(shape).Elements() {
		v := float32(w.rng.NormFloat64()) * 0.05
		w.data.Write(binary.LittleEndian.AppendUint16(nil, tensor.F32ToF16(v)))
	}
	if w.header == nil {
		w.header = map[string]any{}
	}
	w.header[name] = map[string]any{"dtype": "F16", "shape": shape, "data_offsets": []int{begin, w.data.Len()}}
}

func (w *writer) bytes(t testing.TB) []byte {
	text, err := json.Marshal(w.header)
	if err != nil {
		t.Fatal(err)
	}
	return append(append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...), w.data.Bytes()...)
}

// stacked returns the model with the first n files at a strength.
func (l *loraBench) stacked(b *testing.B, m *Model, n int, strength float64) *Model {
	for _, f := range l.files[:n] {
		var err error
		if m, err = m.WithLoRA(f, strength); err != nil {
			b.Fatal(err)
		}
	}
	return m
}

// step times one call with a stack of LoRAs and one without, in turn.
func (l *loraBench) step(b *testing.B, n, stack int) {
	in := map[string]*tensor.Tensor{
		"x": tensor.Full(0.3, 1, 4, n, n), "timesteps": tensor.Full(500, 1), "context": tensor.Full(0.1, 1, 77, 768),
	}
	with := l.stacked(b, l.model, stack, 0.7)
	timed := func(m *Model) float64 {
		start := cpuSeconds(b)
		if _, err := l.runtime.pool.run(context.Background(), m.unet, in); err != nil {
			b.Fatal(err)
		}
		return cpuSeconds(b) - start
	}
	timed(l.model)
	before := residentMiB(b)
	timed(with)
	grown := residentMiB(b) - before
	var ratios, plain []float64
	for b.Loop() {
		a := timed(l.model)
		c := timed(with)
		d := timed(l.model)
		plain = append(plain, (a+d)/2)
		ratios = append(ratios, 2*c/(a+d))
	}
	slices.Sort(ratios)
	slices.Sort(plain)
	b.ReportMetric(ratios[len(ratios)/2], "of-plain")
	b.ReportMetric(plain[len(plain)/2], "s/plain")
	b.ReportMetric(float64(l.own(with.unet))/(1<<20), "own-MiB")
	b.ReportMetric(grown, "grown-MiB")
	l.runtime.Free()
}

// cpuSeconds returns the processor time of the process: on a busy machine a
// better measure than the clock's.
func cpuSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// own returns the bytes of a component's session that no other shares.
func (l *loraBench) own(c *component) int64 {
	p := l.runtime.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.entries[c.key()].own
}

// residentMiB returns the memory of the process without what it maps of files on
// disk: heap and shared memory.
func residentMiB(b *testing.B) float64 {
	data, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Fatal(err)
	}
	total := 0.0
	for _, line := range strings.Split(string(data), "\n") {
		if f := strings.Fields(line); len(f) > 1 && (f[0] == "RssAnon:" || f[0] == "RssShmem:") {
			n, _ := strconv.ParseFloat(f[1], 64)
			total += n / 1024
		}
	}
	return total
}

// change times how long other strengths keep the UNet from its first operator.
func (l *loraBench) change(b *testing.B, whole bool) {
	strength := 0.5
	ready := func() {
		strength += 0.01
		c := l.applied(b, strength, whole)
		e, err := l.runtime.pool.acquire(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(e.own)/(1<<20), "own-MiB")
		l.runtime.pool.release(e)
	}
	ready()
	start := cpuSeconds(b)
	for b.Loop() {
		ready()
	}
	b.ReportMetric((cpuSeconds(b)-start)/float64(b.N), "cpu-s/op")
	l.runtime.Free()
}

// applied returns the UNet with the first file, whose products stand beside the
// weights or are merged into them.
func (l *loraBench) applied(b *testing.B, strength float64, whole bool) *component {
	s := l.files[0].step(l.model.unet, l.model.loraKeys(), strength)
	if whole {
		s = merged(s)
	}
	c, err := l.model.unet.with(s)
	if err != nil {
		b.Fatal(err)
	}
	return c
}

// onlyMerged is a change that cannot stand beside the weight.
type onlyMerged struct{ change }

func (onlyMerged) branch() (*loraChange, bool) { return nil, false }

// cached times merging into a file of the cache.
func (l *loraBench) cached(b *testing.B) {
	strength := 0.5
	cache := &weights.Cache{Dir: b.TempDir()}
	start := cpuSeconds(b)
	for b.Loop() {
		strength += 0.01
		c := l.applied(b, strength, true)
		var changed []weights.Part
		for _, p := range c.parts() {
			if strings.Contains(p.Name, mergedPrefix) {
				changed = append(changed, p)
			}
		}
		located, err := cache.Locate(context.Background(), c.file, c.name, changed)
		if err != nil {
			b.Fatal(err)
		}
		located.Close()
	}
	b.ReportMetric((cpuSeconds(b)-start)/float64(b.N), "cpu-s/op")
}

// text times how long other strengths keep the text encoder from its first
// operator.
func (l *loraBench) text(b *testing.B, wrap func(step) step) {
	strength := 0.5
	ready := func() {
		strength += 0.01
		t := l.clip.towers[0]
		c, err := t.net.with(wrap(l.files[0].step(t.net, l.clip.loraKeys(0), strength)))
		if err != nil {
			b.Fatal(err)
		}
		e, err := l.runtime.pool.acquire(context.Background(), c)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(e.own)/(1<<20), "own-MiB")
		l.runtime.pool.release(e)
	}
	ready()
	start := cpuSeconds(b)
	for b.Loop() {
		ready()
	}
	b.ReportMetric((cpuSeconds(b)-start)/float64(b.N), "cpu-s/op")
	l.runtime.Free()
}
