// Package diffusion puts tokenizer, weights, model graphs, ONNX Runtime and
// samplers together: a Runtime loads a Model, a CLIP and a VAE from a
// checkpoint, and they encode prompts, sample latents and decode pictures.
//
// Vocabulary: a Latent is a picture in the autoencoder's space, a Conditioning
// a list of encoded prompts with where and when each applies, a Cond one of
// them. Model, CLIP and VAE are handles: they say what to run, while sessions
// and weights live in the Runtime, which makes and drops them as memory
// allows. So none of them needs closing, and copying one is cheap.
package diffusion

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/tokenizer"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// Options configure a Runtime. The zero value runs on the CPU without a weight
// cache.
type Options struct {
	// Library returns the path of the ONNX Runtime library. It is asked when the
	// first session is made.
	Library func() (string, error)
	// Device names where to run: "cpu", which "" means too, "cuda", "cuda:1",
	// "webgpu" or, where Choose is set, "auto".
	Device string
	// Choose finds the device and the library for it, as ort.Choose does; nil
	// takes the one that is named, in the library that Library names.
	Choose func(ctx context.Context, device string) (*ort.Choice, error)
	// Precision is that of denoisers, text encoders and controls, VAEPrecision
	// that of autoencoders; "" takes what suits the device, see docs/devices.md.
	Precision, VAEPrecision nn.Precision
	// Threads bounds the threads of one session; 0 takes one per physical core.
	Threads int
	// Cache holds converted weights; nil keeps them in temporary memory.
	Cache *weights.Cache
	// Digests remembers the sha256 of model files; nil takes it anew each time.
	Digests *weights.Digests
	// SessionBytes bounds the weights of the sessions kept loaded while unused;
	// 0 means no bound.
	SessionBytes int64
	// DeviceMemory bounds the bytes of a GPU that networks take, working memory
	// included; 0 means what was free when the device was looked for.
	DeviceMemory int64
	// FreeMemory returns the bytes that are free on a device now, 0 where that is
	// not known, for errors; nil knows nothing.
	FreeMemory func(ort.Device) int64
	// Embedding finds the file of a textual inversion by the name that a prompt
	// gives; nil finds none.
	Embedding func(name string) (path string, ok bool)
	// Loaded is told of each network that was loaded: the file of its weights,
	// without links, and how long it took. Nil tells nobody.
	Loaded func(path string, took time.Duration)
	// Notice is told, in a sentence, of what a user would want to know though it
	// is no failure: that a network was run another way. Nil tells nobody.
	Notice func(text string)
	// Profile is the prefix of ONNX Runtime's profile files, one per session;
	// "" writes none.
	Profile string
}

// Runtime loads models and runs them. It is safe for concurrent use.
type Runtime struct {
	options   Options
	env       func() (*ort.Env, error)
	tokenizer func() (*tokenizer.CLIP, error)
	pool      *pool

	placing sync.Mutex
	place   *Place // nil until it is known

	widening sync.Mutex
	widened  map[string]*component // by key: see runWide
}

// Open returns a Runtime. Nothing is loaded yet, not even ONNX Runtime.
func Open(o Options) (*Runtime, error) {
	for _, p := range []nn.Precision{o.Precision, o.VAEPrecision} {
		if _, err := ParsePrecision(string(p)); err != nil {
			return nil, err
		}
	}
	if _, err := ort.ParseDevice(o.Device); err != nil && (o.Device != ort.Auto || o.Choose == nil) {
		return nil, err
	}
	if o.Cache == nil {
		o.Cache = &weights.Cache{}
	}
	if o.Digests == nil {
		o.Digests = &weights.Digests{}
	}
	r := &Runtime{options: o, tokenizer: sync.OnceValues(tokenizer.NewCLIP)}
	r.env = sync.OnceValues(r.openLibrary)
	r.pool = newPool(r)
	return r, nil
}

func (r *Runtime) openLibrary() (*ort.Env, error) {
	p, err := r.Place(context.Background())
	if err != nil {
		return nil, err
	}
	if p.library != "" {
		return ort.Open(p.library)
	}
	return r.defaultLibrary()
}

// defaultLibrary opens the library that the options name.
func (r *Runtime) defaultLibrary() (*ort.Env, error) {
	if r.options.Library == nil {
		return nil, errors.New("open ONNX Runtime: no library was named")
	}
	path, err := r.options.Library()
	if err != nil {
		return nil, err
	}
	return ort.Open(path)
}

func (r *Runtime) notice(format string, args ...any) {
	if r.options.Notice != nil {
		r.options.Notice(fmt.Sprintf(format, args...))
	}
}

// Version returns the version of the ONNX Runtime library, loading it when it
// is not loaded yet.
func (r *Runtime) Version() (string, error) {
	env, err := r.env()
	if err != nil {
		return "", err
	}
	return env.Version(), nil
}

// Free drops every session that is not running.
func (r *Runtime) Free() { r.pool.shrink(0) }

// Forget drops the sessions of files that are not running. A path is one of
// Model.File and its like.
func (r *Runtime) Forget(paths ...string) { r.pool.forgetFiles(paths) }

// Close drops all sessions. Nothing may be running.
func (r *Runtime) Close() error {
	r.Free()
	return nil
}

// LoadCheckpoint reads the header of an all-in-one checkpoint, recognises its
// family and traces its graphs, so that a checkpoint that does not fit is
// refused here. No weights are read. CLIP or VAE is nil when the file has none.
func (r *Runtime) LoadCheckpoint(ctx context.Context, path string) (*Model, *CLIP, *VAE, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, nil, nil, err
	}
	parts, err := arch.Detect(tensorsOf(f))
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	model, err := r.newModel(ctx, f, parts)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	clip, err := r.newCLIP(ctx, parts.Text, f)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	vae, err := r.newVAE(ctx, f, parts.VAE)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%s: %w", path, err)
	}
	return model, clip, vae, nil
}

// LoadVAE reads an autoencoder from a file of its own.
func (r *Runtime) LoadVAE(ctx context.Context, path string) (*VAE, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	w, err := arch.DetectVAE(tensorsOf(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r.newVAE(ctx, f, w)
}

// LoadUNet reads a denoiser from a file of its own, in the layout of the
// original checkpoints or that of diffusers, its weights rounded to p.
func (r *Runtime) LoadUNet(ctx context.Context, path string, p Precision) (*Model, error) {
	f, err := weights.Open(path)
	if err != nil {
		return nil, err
	}
	parts, err := arch.DetectUNet(tensorsOf(f))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if parts.Model, err = newRounded(parts.Model, p); err != nil {
		return nil, err
	}
	m, err := r.newModel(ctx, f, parts)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	m.unet.variant = string(p)
	return m, nil
}

// LoadCLIP reads a text encoder from a file of its own: CLIP-L as Stable
// Diffusion 1 uses it, OpenCLIP-H as 2 does, OpenCLIP-bigG as the XL refiner
// does. CLIP-L and bigG from two files, in any order, are those of XL.
func (r *Runtime) LoadCLIP(ctx context.Context, paths ...string) (*CLIP, error) {
	var files []*weights.File
	var all []nn.Weights
	for _, path := range paths {
		f, err := weights.Open(path)
		if err != nil {
			return nil, err
		}
		files, all = append(files, f), append(all, tensorsOf(f))
	}
	texts, err := arch.DetectText(all...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
	}
	var ordered []*weights.File
	for _, text := range texts {
		ordered = append(ordered, files[text.File])
	}
	return r.newCLIP(ctx, texts, ordered...)
}
