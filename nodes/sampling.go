package nodes

import (
	"context"
	"errors"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/sampling"
)

func (r *Runtime) addSampling(c *engine.Catalog) {
	engine.Add(c, "KSampler", "sampling", kSampler{Steps: 20, CFG: 8, Denoise: 1}, r.sample).Device().
		Title("KSampler").Doc("Turns noise into a latent picture that follows the prompts.")
	engine.Add(c, "KSamplerAdvanced", "sampling", kSamplerAdvanced{AddNoise: "enable", Steps: 20, CFG: 8, End: 10000, Leftover: "disable"}, r.sampleAdvanced).Device().
		Title("KSampler (Advanced)").Doc("KSampler for a part of the steps, with or without noise at its ends.")
}

type kSampler struct {
	Model     *diffusion.Model       `in:"model"`
	Seed      uint64                 `in:"seed" range:"0,0xffffffffffffffff" ui:"control_after_generate"`
	Steps     int                    `in:"steps" range:"1,10000"`
	CFG       float64                `in:"cfg" range:"0,100,0.1,0.01"`
	Sampler   samplerName            `in:"sampler_name"`
	Scheduler schedulerName          `in:"scheduler"`
	Positive  diffusion.Conditioning `in:"positive"`
	Negative  diffusion.Conditioning `in:"negative"`
	Latent    diffusion.Latent       `in:"latent_image"`
	Denoise   float64                `in:"denoise" range:"0,1,0.01"`
}

func (r *Runtime) sample(ctx context.Context, in kSampler) (diffusion.Latent, error) {
	return r.runPlan(ctx, diffusion.CFGGuider(in.Model, in.Positive, in.Negative, in.CFG), sampling.Plan{
		Sampler: string(in.Sampler), Scheduler: string(in.Scheduler), Steps: in.Steps, Denoise: in.Denoise, EndStep: -1,
	}, diffusion.Job{Latent: in.Latent, Noise: diffusion.Noise{Seed: in.Seed}})
}

type kSamplerAdvanced struct {
	Model     *diffusion.Model       `in:"model"`
	AddNoise  noiseSwitch            `in:"add_noise" ui:"nodefault"`
	Seed      uint64                 `in:"noise_seed" range:"0,0xffffffffffffffff" ui:"control_after_generate"`
	Steps     int                    `in:"steps" range:"1,10000"`
	CFG       float64                `in:"cfg" range:"0,100,0.1,0.01"`
	Sampler   samplerName            `in:"sampler_name"`
	Scheduler schedulerName          `in:"scheduler"`
	Positive  diffusion.Conditioning `in:"positive"`
	Negative  diffusion.Conditioning `in:"negative"`
	Latent    diffusion.Latent       `in:"latent_image"`
	Start     int                    `in:"start_at_step" range:"0,10000"`
	End       int                    `in:"end_at_step" range:"0,10000"`
	Leftover  leftoverSwitch         `in:"return_with_leftover_noise" ui:"nodefault"`
}

func (r *Runtime) sampleAdvanced(ctx context.Context, in kSamplerAdvanced) (diffusion.Latent, error) {
	return r.runPlan(ctx, diffusion.CFGGuider(in.Model, in.Positive, in.Negative, in.CFG), sampling.Plan{
		Sampler: string(in.Sampler), Scheduler: string(in.Scheduler), Steps: in.Steps, Denoise: 1,
		StartStep: in.Start, EndStep: in.End, ForceFullDenoise: in.Leftover == "disable",
	}, diffusion.Job{Latent: in.Latent, Noise: diffusion.Noise{Seed: in.Seed, Off: in.AddNoise == "disable"}})
}

// errNoModel explains a MODEL input that is empty.
var errNoModel = errors.New("the MODEL input is empty")

// runPlan samples over the levels of a plan.
func (r *Runtime) runPlan(ctx context.Context, g diffusion.Guider, p sampling.Plan, j diffusion.Job) (diffusion.Latent, error) {
	if g.Model() == nil {
		return diffusion.Latent{}, errNoModel
	}
	sigmas, err := sampling.Sigmas(g.Model().Schedule(), p)
	if err != nil {
		return diffusion.Latent{}, err
	}
	j.Guider, j.Sampler, j.Sigmas = g, diffusion.Sampler{Name: p.Sampler}, sigmas
	out, err := r.runJob(ctx, j)
	return out.Latent, err
}

// runJob samples and reports each step as progress of the node, with a preview.
func (r *Runtime) runJob(ctx context.Context, j diffusion.Job) (diffusion.Sampled, error) {
	m := j.Guider.Model()
	if m == nil {
		return diffusion.Sampled{}, errNoModel
	}
	j.OnStep = func(s sampling.Step) {
		engine.Preview(ctx, s.Index+1, s.Total, r.previewOf(ctx, m.Glimpse(s.Denoised), s))
	}
	return diffusion.Sample(ctx, j)
}
