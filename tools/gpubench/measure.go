package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/gpu"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
)

// result is one engine's times for one case; the JSON of baseline.py is the
// same.
type result struct {
	Engine string `json:"engine"`
	Device string `json:"device"`
	Model  string `json:"model"`
	Size   int    `json:"size"`
	Steps  int    `json:"steps"`
	Batch  int    `json:"batch"`
	// Load is the time to make the networks ready, their file in the system's
	// cache; First that of the first picture, Load included for comfyrun.
	Load  float64 `json:"load_s"`
	First float64 `json:"first_s"`
	// Sample and Decode are medians over the rounds, Best the fastest sampling.
	Sample float64 `json:"sample_s"`
	Best   float64 `json:"best_s"`
	Decode float64 `json:"decode_s"`
	Peak   int64   `json:"peak_bytes"` // of the device's memory
}

// drawing is a case with its models loaded.
type drawing struct {
	benchCase
	model              *diffusion.Model
	vae                *diffusion.VAE
	positive, negative diffusion.Conditioning
	sigmas             diffusion.Sigmas
}

// measure times a case in a runtime of its own: the first picture, then rounds
// of sampling and decoding.
func (b *bench) measure(ctx context.Context, path string, c benchCase) (result, error) {
	r := result{Engine: "comfyrun", Model: c.model, Size: c.size, Steps: c.steps, Batch: c.batch}
	if err := warm(path); err != nil {
		return r, err
	}
	var loaded seconds
	before := freeMemory()
	runtime, err := b.open(&loaded)
	if err != nil {
		return r, err
	}
	defer runtime.Close()
	place, err := runtime.Place(ctx)
	if err != nil {
		return r, err
	}
	r.Device = place.Device.String() + " " + place.Capabilities.Name + " " + string(place.Precision)
	began := time.Now()
	d, err := prepare(ctx, runtime, path, c)
	if err != nil {
		return r, err
	}
	latent, err := d.sample(ctx, 1)
	if err == nil {
		_, err = d.vae.Decode(ctx, latent)
	}
	if err != nil {
		return r, err
	}
	r.First, r.Load = time.Since(began).Seconds(), loaded.total
	if err := b.rounded(ctx, d, &r); err != nil {
		return r, err
	}
	r.Peak = before - freeMemory()
	return r, nil
}

// rounded fills the times of further pictures in.
func (b *bench) rounded(ctx context.Context, d *drawing, r *result) error {
	var samplings, decodings []float64
	for i := range b.rounds {
		began := time.Now()
		latent, err := d.sample(ctx, uint64(2+i))
		if err != nil {
			return err
		}
		samplings = append(samplings, time.Since(began).Seconds())
		began = time.Now()
		if _, err := d.vae.Decode(ctx, latent); err != nil {
			return err
		}
		decodings = append(decodings, time.Since(began).Seconds())
	}
	slices.Sort(samplings)
	slices.Sort(decodings)
	r.Sample, r.Best, r.Decode = samplings[len(samplings)/2], samplings[0], decodings[len(decodings)/2]
	return nil
}

func (b *bench) open(loaded *seconds) (*diffusion.Runtime, error) {
	return diffusion.Open(diffusion.Options{
		Library: func() (string, error) { return ort.Find(b.library) },
		Choose: func(ctx context.Context, device string) (*ort.Choice, error) {
			return ort.Choose(ctx, device, func(string) (string, error) { return ort.Find(b.library) })
		},
		Device: b.device, Precision: nn.Precision(b.precision),
		Cache:  &weights.Cache{Dir: filepath.Join(b.dir, "weights")},
		Loaded: func(_ string, took time.Duration) { loaded.add(took) },
		Notice: func(text string) { fmt.Fprintln(os.Stderr, text) },
	})
}

// prepare loads the models and encodes the prompts.
func prepare(ctx context.Context, r *diffusion.Runtime, path string, c benchCase) (*drawing, error) {
	model, clip, vae, err := r.LoadCheckpoint(ctx, path)
	if err != nil {
		return nil, err
	}
	d := &drawing{benchCase: c, model: model, vae: vae}
	if d.positive, err = clip.Encode(ctx, "a lighthouse in a storm, oil on canvas"); err != nil {
		return nil, err
	}
	if d.negative, err = clip.Encode(ctx, "blurry"); err != nil {
		return nil, err
	}
	d.sigmas, err = sampling.Schedule(model.Schedule(), "normal", c.steps)
	return d, err
}

// sample draws with Euler's method and classifier-free guidance: the latents.
func (d *drawing) sample(ctx context.Context, seed uint64) (*tensor.Tensor, error) {
	out, err := diffusion.Sample(ctx, diffusion.Job{
		Guider:  diffusion.CFGGuider(d.model, d.positive, d.negative, 7),
		Sampler: diffusion.Sampler{Name: "euler"}, Sigmas: d.sigmas, Noise: diffusion.Noise{Seed: seed},
		Latent: diffusion.Latent{Samples: tensor.New(d.batch, 4, d.size/8, d.size/8)},
	})
	return out.Latent.Samples, err
}

// seconds adds times up that several networks report.
type seconds struct {
	mu    sync.Mutex
	total float64
}

func (s *seconds) add(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total += d.Seconds()
}

// warm reads a file once, so that the system has it in memory.
func warm(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = f.WriteTo(discard{})
	return err
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// freeMemory returns what is free on the first GPU, 0 without one.
func freeMemory() int64 {
	n, err := gpu.System{}.Nvidia()
	if err != nil || len(n.GPUs) == 0 {
		return 0
	}
	return n.GPUs[0].Free
}
