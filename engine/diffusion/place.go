package diffusion

import (
	"context"
	"fmt"

	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/ort"
)

// Place is where a Runtime computes, and in which precision.
type Place struct {
	Device ort.Device
	// Capabilities are what the device turned out to have; zero on the CPU.
	Capabilities ort.Capabilities
	// Precision is that of denoisers, text encoders and controls, VAEPrecision
	// that of autoencoders. Upscalers compute in fp32.
	Precision, VAEPrecision nn.Precision
	// Rejected are devices that were passed over for this one, and why.
	Rejected []ort.Rejection

	library string // of ONNX Runtime, "" for that of the options
}

// isCPU reports whether the place is the processor.
func (p *Place) isCPU() bool { return p.Device.String() == "cpu" }

// Place returns where the runtime computes. The device is looked for at the
// first call, or at the first load of a model. The CPU needs no looking for:
// asked for, it is there before ONNX Runtime is.
func (r *Runtime) Place(ctx context.Context) (*Place, error) {
	r.placing.Lock()
	defer r.placing.Unlock()
	if r.place != nil {
		return r.place, nil
	}
	p, err := r.choose(ctx)
	if err != nil {
		return nil, err
	}
	if err := p.setPrecision(r.options); err != nil {
		return nil, err
	}
	r.place = p
	return p, nil
}

// placed is Place once that is known, before it the CPU.
func (r *Runtime) placed() *Place {
	r.placing.Lock()
	defer r.placing.Unlock()
	if r.place == nil {
		return &Place{}
	}
	return r.place
}

func (r *Runtime) choose(ctx context.Context) (*Place, error) {
	p := &Place{}
	var err error
	if r.options.Device != ort.Auto {
		if p.Device, err = ort.ParseDevice(r.options.Device); err != nil {
			return nil, err
		}
		if p.isCPU() {
			return p, nil
		}
	}
	if r.options.Choose != nil {
		return chosen(r.options.Choose(ctx, r.options.Device))
	}
	env, err := r.defaultLibrary()
	if err != nil {
		return nil, err
	}
	found, err := env.Probe(ctx, p.Device)
	if err != nil {
		return nil, err
	}
	p.Capabilities = *found
	return p, nil
}

// chosen returns the place of a choice.
func chosen(c *ort.Choice, err error) (*Place, error) {
	if err != nil {
		return nil, err
	}
	p := &Place{Device: c.Device, Rejected: c.Rejected, library: c.Library}
	if !p.isCPU() {
		p.Capabilities = *c.Capabilities
	}
	return p, nil
}

// AutoPrecision is what ParsePrecision takes for the one that suits the device.
const AutoPrecision = "auto"

// ParsePrecision reads a precision for Options: "auto" or "" is "".
func ParsePrecision(s string) (nn.Precision, error) {
	switch p := nn.Precision(s); p {
	case "", AutoPrecision:
		return "", nil
	case nn.Float32, nn.Float16:
		return p, nil
	}
	return "", fmt.Errorf("precision %q is not known; known are %s, %s and %s", s, AutoPrecision, nn.Float32, nn.Float16)
}

// Instead says which devices the place stands in for and why, each after "; not ";
// "" for none.
func (p *Place) Instead() string {
	text := ""
	for _, r := range p.Rejected {
		text += "; not " + r.String()
	}
	return text
}

// setPrecision decides the precisions: half of it for networks where the device
// computes in it, all of it for autoencoders, some of which overflow.
func (p *Place) setPrecision(o Options) error {
	p.Precision, p.VAEPrecision = o.Precision, o.VAEPrecision
	if p.Precision == "" && p.Capabilities.Float16 {
		p.Precision = nn.Float16
	}
	for _, q := range []*nn.Precision{&p.Precision, &p.VAEPrecision} {
		switch *q {
		case "":
			*q = nn.Float32
		case nn.Float32:
		case nn.Float16:
			if !p.Capabilities.Float16 {
				return &ort.Error{Op: "use precision " + string(*q), Code: ort.CodeDevice,
					Message: fmt.Sprintf("device %s computes in %s", p.Device, nn.Float32) + p.Instead()}
			}
		}
	}
	return nil
}

// role is what a network is for.
type role int

const (
	denoising role = iota // and encoding text, and steering
	coding                // pictures to latents and back
	enlarging             // pictures
)

// target returns what the graphs of a role are built for.
func (r *Runtime) target(ctx context.Context, of role) (nn.Target, error) {
	p, err := r.Place(ctx)
	if err != nil {
		return nn.Target{}, err
	}
	return p.target(of), nil
}

func (p *Place) target(of role) nn.Target {
	if p.isCPU() {
		return nn.Target{}
	}
	t := nn.Target{Provider: nn.Provider(p.Device.Provider), Precision: nn.Float32, PlainAttention: !p.Capabilities.Attention, PlainNorm: p.Capabilities.Software}
	switch of {
	case denoising:
		t.Precision = p.Precision
	case coding:
		t.Precision = p.VAEPrecision
	}
	return t
}
