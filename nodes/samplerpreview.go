package nodes

import (
	"bytes"
	"context"
	"fmt"
	"image"
	"image/jpeg"
	"math"
	"path"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/sampling"
)

// stepPreview shows what a sampler has come to. Nothing is computed before
// somebody asks for the picture.
type stepPreview struct {
	step    sampling.Step
	glimpse diffusion.Glimpse
	// decode shows the glimpse through a tiny autoencoder; ok is false where
	// there is no file of it that can be read.
	decode func(diffusion.Glimpse) (img diffusion.Image, ok bool, err error)
}

// StepTrace is what receipts keep of a step of a sampler.
type StepTrace struct {
	Sigma float32 // the noise level
	// State and Prediction are digests, 16 hexadecimal digits, of the latent at
	// that level and of what the network made of it, in the model's scaled space.
	State, Prediction string
	Sketch            string // of the prediction, see tensor.Sketch
}

// Trace returns the numbers of the step. The state is gone once the sampler goes
// on: it may only be called by whoever is being told of the step.
func (p stepPreview) Trace() StepTrace {
	const digits = 16
	state, prediction := diffusion.Latent{Samples: p.step.X}, diffusion.Latent{Samples: p.step.Denoised}
	return StepTrace{
		Sigma: p.step.Sigma, State: state.Digest()[:digits], Prediction: prediction.Digest()[:digits], Sketch: prediction.Sketch(),
	}
}

func (r *Runtime) previewOf(ctx context.Context, g diffusion.Glimpse, s sampling.Step) stepPreview {
	return stepPreview{s, g, func(g diffusion.Glimpse) (diffusion.Image, bool, error) {
		if r.Models == nil {
			return diffusion.Image{}, false, nil
		}
		name := r.tinyHalf(g.TinyVAE() + "_decoder")
		if path.Ext(name) != modelEnding {
			return diffusion.Image{}, false, nil
		}
		file, err := r.Models.Path("vae_approx", name)
		if err != nil {
			return diffusion.Image{}, false, err
		}
		img, err := g.Decode(ctx, file)
		return img, true, err
	}}
}

// previewQuality is that of the JPEG files of previews, as in ComfyUI.
const previewQuality = 95

// Encode makes the picture by a method, scaled to fit a square: "latent2rgb" and
// "auto" show one colour for each latent pixel, "taesd" decodes with the
// family's tiny autoencoder where its file is there, "none" and "" make none.
func (p stepPreview) Encode(method string, fit int) (mime string, data []byte, err error) {
	var img diffusion.Image
	decoded := false
	switch method {
	case "", "none":
		return "", nil, nil
	case "latent2rgb", "auto":
	case "taesd":
		if img, decoded, err = p.decode(p.glimpse); err != nil {
			return "", nil, err
		}
	default:
		return "", nil, fmt.Errorf("preview a step: method %q is none of none, auto, latent2rgb and taesd", method)
	}
	if !decoded {
		img = p.glimpse.Colours()
	}
	pic, err := imagefile.FromTensor(img.Tensor, 0)
	if err != nil {
		return "", nil, fmt.Errorf("preview a step: %w", err)
	}
	var b bytes.Buffer
	err = jpeg.Encode(&b, contained(pic, fit), &jpeg.Options{Quality: previewQuality})
	return "image/jpeg", b.Bytes(), err
}

// contained scales a picture so that its longer side is the given one, with a
// triangle filter that widens when shrinking.
func contained(p imagefile.Picture, side int) image.Image {
	width, height := side, side
	if p.Width > p.Height {
		height = max(int(math.RoundToEven(float64(side*p.Height)/float64(p.Width))), 1)
	} else {
		width = max(int(math.RoundToEven(float64(side*p.Width)/float64(p.Height))), 1)
	}
	rows := triangleTaps(p.Height, height)
	columns := triangleTaps(p.Width, width)
	out := image.NewNRGBA(image.Rect(0, 0, width, height))
	line := make([]float64, 3*p.Width)
	for y, row := range rows {
		for i := range line {
			line[i] = row.sum(func(k int) float64 { return float64(p.RGB[3*p.Width*k+i]) })
		}
		for x, column := range columns {
			at := out.Pix[out.PixOffset(x, y):]
			for c := range 3 {
				at[c] = byte(column.sum(func(k int) float64 { return line[3*k+c] }) + 0.5)
			}
			at[3] = math.MaxUint8
		}
	}
	return out
}

// taps are the weights of the pixels from first on.
type taps struct {
	first   int
	weights []float64
}

func (t taps) sum(pixel func(k int) float64) float64 {
	var sum float64
	for i, w := range t.weights {
		sum += w * pixel(t.first+i)
	}
	return sum
}

// triangleTaps are those of each pixel of an axis that is scaled from in to out
// pixels.
func triangleTaps(in, out int) []taps {
	list := make([]taps, out)
	step := float64(in) / float64(out)
	support := max(step, 1)
	for i := range list {
		center := (float64(i) + 0.5) * step
		first, end := max(int(center-support+0.5), 0), min(int(center+support+0.5), in)
		t, sum := taps{first: first}, 0.0
		for k := first; k < end; k++ {
			w := max(0, 1-math.Abs(float64(k)+0.5-center)/support)
			t.weights, sum = append(t.weights, w), sum+w
		}
		for k := range t.weights {
			t.weights[k] /= sum
		}
		list[i] = t
	}
	return list
}
