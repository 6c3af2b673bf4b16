package weights

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// image is the layout of a converted file: a .safetensors file.
type image struct {
	header []byte // with its length in front
	places []Info // one for each part to convert, offsets from the file's start
	size   int64
}

// layout places the parts of p one after the other.
func (p *plan) layout(metadata map[string]string) (*image, error) {
	type place struct {
		DType   tensor.DType `json:"dtype"`
		Shape   []int        `json:"shape"`
		Offsets [2]int64     `json:"data_offsets"`
	}
	img := &image{}
	entries := map[string]any{"__metadata__": metadata}
	var end int64
	for _, part := range p.convert {
		n, d := part.bytes(), part.dtype()
		entries[part.Name] = place{d, append([]int{}, part.Shape...), [2]int64{end, end + n}}
		img.places = append(img.places, Info{Name: part.Name, DType: d, Shape: part.Shape, Offset: end, Length: n})
		end += n
	}
	text, err := json.Marshal(entries)
	if err != nil {
		return nil, err
	}
	// The data begins on a cache line.
	text = append(text, strings.Repeat(" ", -(len(text)+8)&63)...)
	img.header = append(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text...)
	for i := range img.places {
		img.places[i].Offset += int64(len(img.header))
	}
	img.size = int64(len(img.header)) + end
	return img, nil
}

// jobLength is the number of elements that are converted at once.
const jobLength = 1 << 20

// maxWorkers bounds the memory that conversion takes: each worker may hold the
// sources and the result of one transformed part.
const maxWorkers = 8

// job is the stretch of a part that begins at element first.
type job struct{ part, first, n int }

// jobs lists the stretches in the order of the file.
func (p *plan) jobs() []job {
	var jobs []job
	for i, part := range p.convert {
		n, step := part.Shape.Elements(), jobLength
		if part.Transform != nil && !part.Transform.Elementwise {
			step = max(n, 1)
		}
		for first := 0; first < n; first += step {
			jobs = append(jobs, job{i, first, min(step, n-first)})
		}
	}
	return jobs
}

// write fills w with the converted file, on all cores.
func (p *plan) write(ctx context.Context, w io.WriterAt, img *image) error {
	src, err := os.Open(p.file.Path)
	if err != nil {
		return err
	}
	defer src.Close()
	if _, err := w.WriteAt(img.header, 0); err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	group.Go(func() error {
		defer close(jobs)
		for _, j := range p.jobs() {
			select {
			case jobs <- j:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	for range min(runtime.GOMAXPROCS(0), maxWorkers) {
		group.Go(func() error {
			worker := worker{plan: p, image: img, source: decoder{r: src}, out: w}
			for j := range jobs {
				if err := worker.convert(j); err != nil {
					return fmt.Errorf("part %q: %w", p.convert[j.part].Name, err)
				}
				if err := ctx.Err(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// worker converts jobs one after the other and keeps its buffers for the next.
type worker struct {
	*plan
	*image
	source decoder
	out    io.WriterAt
	values []float32
	raw    []byte
}

func (w *worker) convert(j job) error {
	w.values = grow(w.values, j.n)
	if err := w.compute(j, w.values); err != nil {
		return err
	}
	at := w.places[j.part]
	size := at.DType.Size()
	for first := 0; first < j.n; first += jobLength {
		piece := w.values[first:min(first+jobLength, j.n)]
		w.raw = grow(w.raw, size*len(piece))
		if err := tensor.Encode(w.raw, piece, at.DType); err != nil {
			return err
		}
		if _, err := w.out.WriteAt(w.raw, at.Offset+int64(size)*int64(j.first+first)); err != nil {
			return err
		}
	}
	return nil
}

// compute sets dst to the elements of j.
func (w *worker) compute(j job, dst []float32) error {
	part := w.plan.convert[j.part]
	if part.Transform == nil {
		return w.source.read(dst, w.file.tensors[part.From[0]], j.first)
	}
	if part.Transform.Elementwise {
		src := tensor.New(j.n)
		if err := w.source.read(src.Data, w.file.tensors[part.From[0]], j.first); err != nil {
			return err
		}
		return part.Transform.Apply(dst, []*tensor.Tensor{src})
	}
	var src []*tensor.Tensor
	for _, name := range part.From {
		info := w.file.tensors[name]
		t := tensor.New(info.Shape...)
		if err := w.source.read(t.Data, info, 0); err != nil {
			return err
		}
		src = append(src, t)
	}
	clear(dst)
	return part.Transform.Apply(dst, src)
}

// grow returns a slice of n elements, s itself where it is large enough.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}
