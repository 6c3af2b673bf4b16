package nodes

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

func addLatents(c *engine.Catalog) {
	engine.Add(c, "EmptyLatentImage", "latent", emptyLatent{Width: 512, Height: 512, Batch: 1}, newLatent).
		Title("Empty Latent Image").Doc("An empty latent picture to start from.")
	engine.Add(c, "VAEDecode", "latent", vaeDecode{}, decodeLatent).Device().
		Title("VAE Decode").Doc("Turns a latent into a picture.")
	engine.Add(c, "VAEEncode", "latent", vaeEncode{}, encodeImage).Device().
		Title("VAE Encode").Doc("Turns a picture into a latent.")
	engine.Add(c, "VAEDecodeTiled", "_for_testing", vaeDecodeTiled{TileSize: 512, Overlap: 64, TemporalSize: 64, TemporalOverlap: 8}, decodeTiled).Device().
		Title("VAE Decode (Tiled)").Doc("Turns a latent into a picture in tiles, with less memory.")
	engine.Add(c, "VAEEncodeTiled", "_for_testing", vaeEncodeTiled{TileSize: 512, Overlap: 64, TemporalSize: 64, TemporalOverlap: 8}, encodeTiled).Device().
		Title("VAE Encode (Tiled)").Doc("Turns a picture into a latent in tiles, with less memory.")
	engine.Add(c, "LatentUpscale", "latent", latentUpscale{Method: tensor.NearestExact, Width: 512, Height: 512, Crop: "disabled"}, upscaleLatent).
		Title("Upscale Latent").Doc("Resizes a latent to a picture size.")
	engine.Add(c, "LatentUpscaleBy", "latent", latentUpscaleBy{Method: tensor.NearestExact, Scale: 1.5}, upscaleLatentBy).
		Title("Upscale Latent By").Doc("Resizes a latent by a factor.")
	engine.Add(c, "SetLatentNoiseMask", "latent/inpaint", setNoiseMask{}, maskLatent).
		Title("Set Latent Noise Mask").Doc("Limits sampling to where the mask is white.")
	addLatentBatches(c)
}

type emptyLatent struct {
	Width  int `in:"width" range:"16,16384,8" doc:"Width of the picture in pixels."`
	Height int `in:"height" range:"16,16384,8" doc:"Height of the picture in pixels."`
	Batch  int `in:"batch_size" range:"1,4096" doc:"How many pictures to make at once."`
}

func newLatent(_ context.Context, in emptyLatent) (diffusion.Latent, error) {
	return diffusion.Latent{Samples: tensor.New(in.Batch, 4, in.Height/latentPixel, in.Width/latentPixel)}, nil
}

// errNoVAE explains a VAE input that is empty.
var errNoVAE = errors.New("the VAE input is empty: the checkpoint holds no autoencoder; load one with VAELoader")

type vaeDecode struct {
	Samples diffusion.Latent `in:"samples"`
	VAE     *diffusion.VAE   `in:"vae"`
}

func decodeLatent(ctx context.Context, in vaeDecode) (diffusion.Image, error) {
	if in.VAE == nil {
		return diffusion.Image{}, errNoVAE
	}
	return in.VAE.Decode(ctx, in.Samples.Samples)
}

type vaeEncode struct {
	Pixels diffusion.Image `in:"pixels"`
	VAE    *diffusion.VAE  `in:"vae"`
}

func encodeImage(ctx context.Context, in vaeEncode) (diffusion.Latent, error) {
	if in.VAE == nil {
		return diffusion.Latent{}, errNoVAE
	}
	samples, err := in.VAE.Encode(ctx, in.Pixels)
	return diffusion.Latent{Samples: samples}, err
}

// vaeDecodeTiled has the temporal inputs of video models, which pictures do not
// use.
type vaeDecodeTiled struct {
	Samples         diffusion.Latent `in:"samples"`
	VAE             *diffusion.VAE   `in:"vae"`
	TileSize        int              `in:"tile_size" range:"64,4096,32"`
	Overlap         int              `in:"overlap" range:"0,4096,32"`
	TemporalSize    int              `in:"temporal_size" range:"8,4096,4" doc:"Only for video models: frames decoded at once."`
	TemporalOverlap int              `in:"temporal_overlap" range:"4,4096,4" doc:"Only for video models: frames shared by neighbours."`
}

func decodeTiled(ctx context.Context, in vaeDecodeTiled) (diffusion.Image, error) {
	if in.VAE == nil {
		return diffusion.Image{}, errNoVAE
	}
	return in.VAE.DecodeTiled(ctx, in.Samples.Samples, diffusion.Tiles{Size: in.TileSize, Overlap: in.Overlap})
}

type vaeEncodeTiled struct {
	Pixels          diffusion.Image `in:"pixels"`
	VAE             *diffusion.VAE  `in:"vae"`
	TileSize        int             `in:"tile_size" range:"64,4096,64"`
	Overlap         int             `in:"overlap" range:"0,4096,32"`
	TemporalSize    int             `in:"temporal_size" range:"8,4096,4" doc:"Only for video models: frames encoded at once."`
	TemporalOverlap int             `in:"temporal_overlap" range:"4,4096,4" doc:"Only for video models: frames shared by neighbours."`
}

func encodeTiled(ctx context.Context, in vaeEncodeTiled) (diffusion.Latent, error) {
	if in.VAE == nil {
		return diffusion.Latent{}, errNoVAE
	}
	samples, err := in.VAE.EncodeTiled(ctx, in.Pixels, diffusion.Tiles{Size: in.TileSize, Overlap: in.Overlap})
	return diffusion.Latent{Samples: samples}, err
}

type latentUpscale struct {
	Samples diffusion.Latent `in:"samples"`
	Method  latentMethod     `in:"upscale_method" ui:"nodefault"`
	Width   int              `in:"width" range:"0,16384,8"`
	Height  int              `in:"height" range:"0,16384,8"`
	Crop    cropMethod       `in:"crop" ui:"nodefault"`
}

// upscaleLatent resizes to a picture size; a side of 0 follows from the other
// one, and both 0 leave the latent as it is. Sides are at least 64 pixels.
func upscaleLatent(_ context.Context, in latentUpscale) (diffusion.Latent, error) {
	if in.Width == 0 && in.Height == 0 {
		return in.Samples, nil
	}
	s := in.Samples.Samples
	h, w := float64(s.Dim(2)), float64(s.Dim(3))
	width, height := max(64, in.Width), max(64, in.Height)
	if in.Width == 0 {
		width = max(64, int(math.RoundToEven(w*float64(height)/h)))
	}
	if in.Height == 0 {
		height = max(64, int(math.RoundToEven(h*float64(width)/w)))
	}
	if in.Crop == "center" {
		var err error
		if s, err = tensor.CenterCrop(s, width/latentPixel, height/latentPixel); err != nil {
			return diffusion.Latent{}, err
		}
	}
	return resized(in.Samples, s, width/latentPixel, height/latentPixel, in.Method)
}

type latentUpscaleBy struct {
	Samples diffusion.Latent `in:"samples"`
	Method  latentMethod     `in:"upscale_method" ui:"nodefault"`
	Scale   float64          `in:"scale_by" range:"0.01,8,0.01"`
}

func upscaleLatentBy(_ context.Context, in latentUpscaleBy) (diffusion.Latent, error) {
	s := in.Samples.Samples
	width := int(math.RoundToEven(float64(s.Dim(3)) * in.Scale))
	height := int(math.RoundToEven(float64(s.Dim(2)) * in.Scale))
	return resized(in.Samples, s, width, height, in.Method)
}

// resized returns l with samples scaled to a size in latent pixels.
func resized(l diffusion.Latent, samples *tensor.Tensor, width, height int, method latentMethod) (diffusion.Latent, error) {
	var err error
	l.Samples, err = tensor.Resize(samples, width, height, string(method))
	return l, err
}

type setNoiseMask struct {
	Samples diffusion.Latent `in:"samples"`
	Mask    diffusion.Mask   `in:"mask"`
}

func maskLatent(_ context.Context, in setNoiseMask) (diffusion.Latent, error) {
	l := in.Samples
	m := in.Mask.Tensor
	h, w := m.Dim(-2), m.Dim(-1)
	l.NoiseMask = tensor.Of(m.Data, len(m.Data)/(h*w), h, w)
	return l, nil
}

func addLatentBatches(c *engine.Catalog) {
	engine.Add(c, "RepeatLatentBatch", "latent/batch", repeatLatent{Amount: 1}, repeatLatentBatch).
		Title("Repeat Latent Batch").Doc("Repeats a batch of latents.")
	engine.Add(c, "LatentFromBatch", "latent/batch", latentFromBatch{Length: 1}, takeLatents).
		Title("Latent From Batch").Doc("Takes some of a batch; they keep the noise of their place.")
	engine.Add(c, "LatentBatchSeedBehavior", "latent/advanced", latentSeedBehavior{Behavior: "fixed"}, setSeedBehavior).V3().Module(latentModule).
		Doc("Gives every latent of a batch the same noise, or noise of its own.")
	engine.Add(c, "RebatchLatents", "latent/batch", rebatchLatents{BatchSize: 1}, rebatch).
		Module("comfy_extras.nodes_rebatch").V3().
		Title("Rebatch Latents").Doc("Regroups latents into batches of another size.")
}

type repeatLatent struct {
	Samples diffusion.Latent `in:"samples"`
	Amount  int              `in:"amount" range:"1,64"`
}

func repeatLatentBatch(_ context.Context, in repeatLatent) (diffusion.Latent, error) {
	l := in.Samples
	n := l.Samples.Dim(0)
	l.Samples = repeated(l.Samples, n*in.Amount)
	if l.NoiseMask != nil && l.NoiseMask.Dim(0) > 1 {
		l.NoiseMask = repeated(repeated(l.NoiseMask, n), n*in.Amount)
	}
	if idx := l.BatchIndex; len(idx) > 0 {
		offset := slices.Max(idx) - slices.Min(idx) + 1
		l.BatchIndex = nil
		for i := range in.Amount {
			for _, x := range idx {
				l.BatchIndex = append(l.BatchIndex, x+i*offset)
			}
		}
	}
	return l, nil
}

// repeated returns the first n items of t repeated without end.
func repeated(t *tensor.Tensor, n int) *tensor.Tensor {
	shape := slices.Clone(t.Shape)
	shape[0] = n
	out := tensor.New(shape...)
	for i := range n {
		copy(out.Index(i).Data, t.Index(i%t.Dim(0)).Data)
	}
	return out
}

type latentFromBatch struct {
	Samples diffusion.Latent `in:"samples"`
	Index   int              `in:"batch_index" range:"0,63"`
	Length  int              `in:"length" range:"1,64"`
}

func takeLatents(_ context.Context, in latentFromBatch) (diffusion.Latent, error) {
	l := in.Samples
	n := l.Samples.Dim(0)
	lo := min(n-1, in.Index)
	hi := lo + min(n-lo, in.Length)
	l.Samples = l.Samples.Rows(lo, hi)
	if l.NoiseMask != nil && l.NoiseMask.Dim(0) > 1 {
		l.NoiseMask = repeated(l.NoiseMask, max(n, l.NoiseMask.Dim(0))).Rows(lo, hi)
	}
	if l.BatchIndex == nil {
		l.BatchIndex = counting(0, n)
	}
	l.BatchIndex = l.BatchIndex[lo:hi]
	return l, nil
}

func counting(from, n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = from + i
	}
	return out
}

type latentSeedBehavior struct {
	Samples  diffusion.Latent `in:"samples"`
	Behavior seedBehavior     `in:"seed_behavior"`
}

func setSeedBehavior(_ context.Context, in latentSeedBehavior) (diffusion.Latent, error) {
	l := in.Samples
	if in.Behavior == "random" {
		l.BatchIndex = nil
		return l, nil
	}
	first := 0
	if len(l.BatchIndex) > 0 {
		first = l.BatchIndex[0]
	}
	l.BatchIndex = slices.Repeat([]int{first}, l.Samples.Dim(0))
	return l, nil
}

type rebatchLatents struct {
	Latents   engine.List[diffusion.Latent] `in:"latents"`
	BatchSize int                           `in:"batch_size" range:"1,4096"`
}

// rebatch regroups the items of all latents, in order. Latents of different
// sizes never share a batch.
func rebatch(_ context.Context, in rebatchLatents) (engine.List[diffusion.Latent], error) {
	var out engine.List[diffusion.Latent]
	var group []diffusion.Latent
	flush := func() error {
		if len(group) == 0 {
			return nil
		}
		l, err := joined(group)
		out, group = append(out, l), nil
		return err
	}
	seen := 0
	for _, l := range in.Latents {
		for i := range l.Samples.Dim(0) {
			item := itemOf(l, i, seen)
			seen++
			if len(group) > 0 && !slices.Equal(group[0].Samples.Shape, item.Samples.Shape) {
				if err := flush(); err != nil {
					return nil, err
				}
			}
			if group = append(group, item); len(group) == in.BatchSize {
				if err := flush(); err != nil {
					return nil, err
				}
			}
		}
	}
	return out, flush()
}

// itemOf returns item i of a batch; position is its place among all items, which
// names its noise where the batch does not.
func itemOf(l diffusion.Latent, i, position int) diffusion.Latent {
	item := diffusion.Latent{Samples: l.Samples.Index(i), BatchIndex: []int{position}}
	if i < len(l.BatchIndex) {
		item.BatchIndex = l.BatchIndex[i : i+1]
	}
	if m := l.NoiseMask; m != nil {
		item.NoiseMask = m.Index(i % m.Dim(0))
	}
	return item
}

// joined makes one batch of single items. A mask is kept when any item has one.
func joined(items []diffusion.Latent) (diffusion.Latent, error) {
	var samples, masks []*tensor.Tensor
	var out diffusion.Latent
	masked := slices.ContainsFunc(items, func(l diffusion.Latent) bool { return l.NoiseMask != nil })
	for _, l := range items {
		samples = append(samples, l.Samples)
		out.BatchIndex = append(out.BatchIndex, l.BatchIndex...)
		if masked {
			m, err := pixelMask(l)
			if err != nil {
				return out, err
			}
			masks = append(masks, m)
		}
	}
	var err error
	if out.Samples, err = tensor.Stack(samples...); err == nil && masked {
		out.NoiseMask, err = tensor.Stack(masks...)
	}
	return out, err
}

// pixelMask returns an item's mask in the size of its picture, [1, height,
// width], ones where it has none.
func pixelMask(l diffusion.Latent) (*tensor.Tensor, error) {
	h, w := l.Samples.Dim(2)*latentPixel, l.Samples.Dim(3)*latentPixel
	if l.NoiseMask == nil {
		return tensor.Full(1, 1, h, w), nil
	}
	m := l.NoiseMask
	plane := tensor.Of(m.Data, 1, 1, m.Dim(-2), m.Dim(-1))
	out, err := tensor.Resize(plane, w, h, tensor.Bilinear)
	if err != nil {
		return nil, err
	}
	return tensor.Of(out.Data, 1, h, w), nil
}
