package sampling

import "slices"

// Plan is what a KSampler node asks for.
type Plan struct {
	Sampler   string
	Scheduler string
	Steps     int
	// Denoise is the part of the denoising that is done: above 0.9999 all of
	// it, otherwise the last Steps steps of Steps/Denoise, at 0 and below nothing.
	Denoise float64
	// StartStep is the first step that is done.
	StartStep int
	// EndStep is the step before which to stop; negative or beyond the end
	// means all.
	EndStep int
	// ForceFullDenoise makes a run that EndStep cuts short end at level 0.
	ForceFullDenoise bool
}

// Sigmas returns the list of levels of a KSampler run. An empty list means that
// nothing is to be done and the latent stays as it is.
func Sigmas(m *Model, p Plan) ([]float32, error) {
	if _, err := find(p.Sampler); err != nil {
		return nil, err
	}
	if p.Denoise <= 0 {
		return nil, nil
	}
	steps := p.Steps
	if p.Denoise <= 0.9999 {
		steps = int(float64(p.Steps) / p.Denoise)
	}
	sigmas, err := samplerSchedule(m, p, steps)
	if err != nil {
		return nil, err
	}
	if p.Denoise <= 0.9999 {
		sigmas = sigmas[max(0, len(sigmas)-p.Steps-1):]
	}
	if sigmas = p.cut(sigmas); len(sigmas) < 2 {
		return nil, nil
	}
	return sigmas, nil
}

// samplerSchedule is Schedule, less the second last level for the samplers that
// do not go well with it.
func samplerSchedule(m *Model, p Plan, steps int) ([]float32, error) {
	drop := slices.Contains([]string{"dpm_2", "dpm_2_ancestral", "uni_pc", "uni_pc_bh2"}, p.Sampler)
	if !drop {
		return Schedule(m, p.Scheduler, steps)
	}
	sigmas, err := Schedule(m, p.Scheduler, steps+1)
	if err != nil || len(sigmas) < 2 {
		return sigmas, err
	}
	n := len(sigmas)
	return slices.Delete(sigmas, n-2, n-1), nil
}

// cut applies StartStep and EndStep.
func (p Plan) cut(sigmas []float32) []float32 {
	if p.EndStep >= 0 && p.EndStep < len(sigmas)-1 {
		sigmas = sigmas[:p.EndStep+1]
		if p.ForceFullDenoise {
			sigmas[p.EndStep] = 0
		}
	}
	if p.StartStep <= 0 {
		return sigmas
	}
	if p.StartStep >= len(sigmas)-1 {
		return nil
	}
	return sigmas[p.StartStep:]
}

// BasicSchedule is the list of the BasicScheduler node: Schedule, of which
// denoise below 1 keeps the last steps of steps/denoise.
func BasicSchedule(m *Model, name string, steps int, denoise float64) ([]float32, error) {
	if denoise <= 0 {
		return nil, nil
	}
	total := steps
	if denoise < 1 {
		total = int(float64(steps) / denoise)
	}
	sigmas, err := Schedule(m, name, total)
	if err != nil {
		return nil, err
	}
	return sigmas[max(0, len(sigmas)-steps-1):], nil
}
