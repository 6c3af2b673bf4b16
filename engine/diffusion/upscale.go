package diffusion

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// Upscaler enlarges pictures with a network.
type Upscaler struct {
	runtime *Runtime
	net     *component
	arch    *arch.Upscaler
}

// LoadUpscaler reads an upscaling network of the ESRGAN family.
func (r *Runtime) LoadUpscaler(ctx context.Context, path string) (*Upscaler, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, unpickled(path, err)
	}
	a, err := arch.DetectUpscaler(tensorsOf(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	target, err := r.target(ctx, enlarging)
	if err != nil {
		return nil, err
	}
	net, err := newComponent(component{name: "upscaler", seldom: true, file: f, target: target, weights: a.Weights, trace: tracerOf(a.Family+" upscaler", a.Build)})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &Upscaler{runtime: r, net: net, arch: a}, nil
}

// unpickled explains an error of opening a file in PyTorch's own format.
func unpickled(path string, err error) error {
	switch filepath.Ext(path) {
	case ".pth", ".pt", ".ckpt", ".bin", ".pkl":
		return fmt.Errorf("%w; pickled files can run code when they are read and are refused: convert the file to .safetensors", err)
	}
	return err
}

// Digest identifies the network by the content of its file.
func (u *Upscaler) Digest() string { return u.net.digest(u.runtime.options.Digests) }

// File returns the path of the file that the network comes from.
func (u *Upscaler) File() string { return u.net.file.Path }

// Scale returns how many times larger pictures come out, on a side.
func (u *Upscaler) Scale() int { return u.arch.Scale }

// Upscale enlarges pictures Scale times, in tiles where they are larger than a
// tile, and clamps them to [0, 1]. Where memory does not suffice for a tile, its
// sides are halved, as ComfyUI does. progress, unless nil, is told the number of
// tiles done and of all.
func (u *Upscaler) Upscale(ctx context.Context, im Image, t Tiles, progress func(done, total int)) (Image, error) {
	for {
		out, err := u.upscale(ctx, im, t, progress)
		if !isMemory(err) || t.Size/2 < smallestTile {
			return out, err
		}
		t.Size /= 2
		u.runtime.notice("%v; the picture is enlarged in tiles of %d pixels", err, t.Size)
	}
}

// smallestTile bounds the halving of tiles.
const smallestTile = 128

func (u *Upscaler) upscale(ctx context.Context, im Image, t Tiles, progress func(done, total int)) (Image, error) {
	x, err := im.ChannelsFirst()
	if err != nil {
		return Image{}, err
	}
	if x.Dim(1) != u.arch.Channels {
		return Image{}, fmt.Errorf("upscale picture: it has %d channels, %s wants %d", x.Dim(1), u.File(), u.arch.Channels)
	}
	l := layout{width: t.Size, height: t.Size, overlap: t.Overlap, scale: float64(u.arch.Scale)}
	done, total := 0, x.Dim(0)*l.count(x.Dim(2), x.Dim(3))
	y, err := averaged(x, []layout{l}, func(tile *tensor.Tensor) (*tensor.Tensor, error) {
		out, err := u.run(ctx, tile)
		if done++; err == nil && progress != nil {
			progress(done, total)
		}
		return out, err
	})
	if err != nil {
		return Image{}, err
	}
	out, err := y.ChannelsLast()
	if err != nil {
		return Image{}, err
	}
	for i, v := range out.Data {
		out.Data[i] = min(max(v, 0), 1)
	}
	return Image{out}, nil
}

// count returns the number of tiles that cover a picture.
func (l layout) count(height, width int) int {
	return len(starts(height, l.height, l.overlap)) * len(starts(width, l.width, l.overlap))
}

// shuffleMultiple is what the sides of a picture are brought to for a network
// that takes blocks of pixels as channels.
// https://github.com/chaiNNer-org/spandrel/blob/main/libs/spandrel/spandrel/architectures/ESRGAN/__init__.py
const shuffleMultiple = 4

// run enlarges one picture, [1, channel, height, width], at once.
func (u *Upscaler) run(ctx context.Context, x *tensor.Tensor) (*tensor.Tensor, error) {
	h, w := x.Dim(2), x.Dim(3)
	if u.arch.Shuffle > 1 {
		x = unshuffled(mirrored(x, shuffleMultiple), u.arch.Shuffle)
	}
	out, err := u.runtime.pool.run(ctx, u.net, map[string]*tensor.Tensor{"x": x})
	if err != nil {
		return nil, err
	}
	return rect{height: h * u.arch.Scale, width: w * u.arch.Scale}.crop(out["image"]), nil
}

// mirrored extends a picture to the right and below until its sides are
// multiples of n. The pixels beyond the edge mirror those before it; the edge
// itself is not repeated.
func mirrored(x *tensor.Tensor, n int) *tensor.Tensor {
	h, w := x.Dim(2), x.Dim(3)
	out := tensor.New(x.Dim(0), x.Dim(1), (h+n-1)/n*n, (w+n-1)/n*n)
	i := 0
	for plane := range x.Dim(0) * x.Dim(1) {
		for y := range out.Dim(2) {
			row := x.Data[(plane*h+mirror(y, h))*w:][:w]
			for col := range out.Dim(3) {
				out.Data[i] = row[mirror(col, w)]
				i++
			}
		}
	}
	return out
}

// mirror returns the place in a row of n that stands for place i.
func mirror(i, n int) int {
	if i < n {
		return i
	}
	return max(0, 2*(n-1)-i)
}

// unshuffled turns blocks of n x n pixels into channels: row y, column x of a
// block of channel c becomes channel c·n²+y·n+x.
func unshuffled(x *tensor.Tensor, n int) *tensor.Tensor {
	h, w := x.Dim(2)/n, x.Dim(3)/n
	out := tensor.New(x.Dim(0), x.Dim(1)*n*n, h, w)
	for i := range out.Data {
		col, row, c := i%w, i/w%h, i/(w*h)
		plane, place := c/(n*n), c%(n*n)
		out.Data[i] = x.Data[(plane*h*n+row*n+place/n)*w*n+col*n+place%n]
	}
	return out
}
