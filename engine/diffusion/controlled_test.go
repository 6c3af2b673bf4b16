//go:build webgpu || nullcuda

package diffusion

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/sampling"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// controlled is a run of tiny networks with controls.
type controlled struct {
	controls []controlSpec // each after the one before
	alone    bool          // the negative side is without them, and evaluated by itself
	areas    bool          // the prompt is for two areas, which are evaluated one by one
	images   int           // 0 is 1
	// others says that there are steps which copy more than latents, when what
	// applies changes.
	others bool
	// sums is how often residuals are added up in a step.
	sums int64
}

// controlSpec is a control: where it starts, and how much before the end it ends.
type controlSpec struct {
	net                   string
	strength, start, less float64
}

// controlledCases are runs that a device and the CPU make alike.
var controlledCases = map[string]controlled{
	"two":                         {controls: []controlSpec{{net: "first", strength: 1}, {net: "second", strength: 0.7}}, sums: 1},
	"adapter between ControlNets": {controls: []controlSpec{{net: "means", strength: 0.7}, {net: "adapter", strength: 0.8}, {net: "first", strength: 1}}, sums: 2},
	"one side":                    {controls: []controlSpec{{net: "first", strength: 0.7}}, alone: true, images: 2, sums: 1},
	"areas":                       {controls: []controlSpec{{net: "first", strength: 0.7}}, areas: true, sums: 2},
	"skipped": {controls: []controlSpec{{net: "means", strength: 1, less: 0.5}, {net: "adapter", strength: 1, start: 0.3}, {net: "first", strength: 1, start: 0.4}},
		others: true},
}

// controlFiles writes the tiny networks.
func controlFiles(t *testing.T) map[string]string {
	dir := t.TempDir()
	files := map[string]string{"model": weightstest.Write(t, dir, "sd15-tiny-fp16")}
	first := bag{}
	for name, v := range tinyControl(t) {
		first["control_model."+name] = v
	}
	files["first"], files["means"] = first.write(t, "first.safetensors"), first.write(t, "first_shuffle.safetensors")
	files["second"] = controlOf(rand.New(rand.NewPCG(9, 10)), bagOf(t, files["model"], "model.diffusion_model.")).write(t, "second.safetensors")
	files["adapter"] = adapterShape{channels: 3, cut: 8}.file(rand.New(rand.NewPCG(13, 14))).write(t, "adapter.safetensors")
	return files
}

// chain loads the controls.
func (c controlled) chain(t *testing.T, r *Runtime, files map[string]string) (last *Control) {
	t.Helper()
	for i, spec := range c.controls {
		net, err := r.LoadControlNet(t.Context(), files[spec.net])
		if err != nil {
			t.Fatal(err)
		}
		picture := each(noise(rand.New(rand.NewPCG(20, uint64(i))), 0.5, 1, 64, 64, 3), func(v float64) float64 { return v + 0.5 })
		last = &Control{Net: net, Hint: Image{picture}, Strength: spec.strength, Start: spec.start, End: 1 - spec.less, Previous: last}
	}
	return last
}

// sample makes the run; after each step it calls done.
func (c controlled) sample(t *testing.T, r *Runtime, files map[string]string, done func(sampling.Step)) *tensor.Tensor {
	t.Helper()
	m, _, _, err := r.LoadCheckpoint(t.Context(), files["model"])
	if err != nil {
		t.Fatal(err)
	}
	text := func(seed uint64) Cond {
		return NewCond(noise(rand.New(rand.NewPCG(30, seed)), 1, 1, 77, m.textWidth), nil)
	}
	positive, negative := text(1), text(2)
	positive.Control, positive.ControlBoth = c.chain(t, r, files), !c.alone
	prompt := Conditioning{positive}
	if c.areas {
		other := text(3)
		other.Control = positive.Control
		positive.Area, other.Area = &Area{Height: 0.5, Width: 1, Percent: true}, &Area{Y: 0.25, Height: 0.75, Width: 1, Percent: true}
		prompt = Conditioning{positive, other}
	}
	samples := noise(rand.New(rand.NewPCG(40, 1)), 3, max(1, c.images), 4, 8, 8)
	out, err := Sample(t.Context(), Job{
		Guider: CFGGuider(m, prompt, Conditioning{negative}, 3), Sampler: Sampler{Name: "euler"}, Sigmas: c.levels(),
		Latent: Latent{Samples: samples}, OnStep: done,
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.Latent.Samples
}

// levels are those of the steps.
func (c controlled) levels() Sigmas {
	if c.others {
		return Sigmas{8, 2.5, 1, 0} // with one control, three, and two
	}
	return Sigmas{8, 2, 0}
}

// crossings are what each session copied in each step.
type crossings struct {
	sessions map[string]*ort.Session
	last     map[string]ort.Transfers
	steps    []map[string]ort.Transfers
}

func (c *crossings) note(sampling.Step) {
	step := map[string]ort.Transfers{}
	for name, s := range c.sessions {
		now, last := s.Transfers(), c.last[name]
		step[name] = ort.Transfers{In: now.In - last.In, Out: now.Out - last.Out, Runs: now.Runs - last.Runs}
		c.last[name] = now
	}
	c.steps = append(c.steps, step)
}

// checkStep looks at what a step copied where an earlier one did the same.
func (c controlled) checkStep(t *testing.T, step map[string]ort.Transfers) {
	t.Helper()
	var sums, latents int64
	for _, name := range slices.Sorted(maps.Keys(step)) {
		s := step[name]
		kind, _, _ := strings.Cut(name, "#")
		timesteps := s.In - s.Out // of 8 images at most
		switch {
		case kind == "unet":
			latents += s.Out
		case kind == "controlnet":
			timesteps %= 4 * 4 * 8 // of whole rows of a latent
		case kind == "residuals":
			sums += s.Runs
		}
		if s.Runs > 0 && kind != "residuals" && timesteps < 4 || timesteps > 4*8 || kind != "unet" && s.Out > 0 {
			t.Errorf("%s copied %+v", name, s)
		}
		if n := s.Runs; n > 0 && kind != "unet" && kind != "controlnet" && kind != "residuals" {
			t.Errorf("%s ran %d times", name, n)
		}
	}
	if sums != c.sums {
		t.Errorf("%d sums, want %d", sums, c.sums)
	}
	if want := 4 * int64(2*4*8*8*max(1, c.images)); latents != want && !c.areas {
		t.Errorf("%d bytes of latents, want %d", latents, want)
	}
}

// checkNothingKept wants all values on the device closed.
func checkNothingKept(t *testing.T, r *Runtime) {
	t.Helper()
	for key, e := range r.pool.entries {
		if len(e.kept) > 0 {
			t.Errorf("%s keeps %d values", key, len(e.kept))
		}
	}
}
