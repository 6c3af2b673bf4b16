package nodes

import (
	"context"
	"errors"
	"slices"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

type (
	controlName string
	controlTask string
)

// controlTasks are the kinds of hints of a union of ControlNets in the order
// in which such a network counts them, after the one that leaves it open.
func controlTasks() []string {
	return []string{
		"auto", "openpose", "depth", "hed/pidi/scribble/ted", "canny/lineart/anime_lineart/mlsd", "normal", "segment", "tile",
		"repaint",
	}
}

// controlKinds are the kinds of addControl.
func (r *Runtime) controlKinds() []engine.Kind {
	return []engine.Kind{
		engine.Socket[*diffusion.ControlNet]("CONTROL_NET"),
		engine.Combo[controlName](func() []string { return r.Models.Names("controlnet") }),
		engine.Combo[controlTask](controlTasks),
	}
}

func (r *Runtime) addControl(c *engine.Catalog) {
	const category = "conditioning/controlnet"
	engine.Add(c, "ControlNetLoader", "loaders", loadControl{}, r.loadControl).
		Fingerprint(func(in loadControl) (string, error) { return r.fileState("controlnet", string(in.Name)) }).
		Title("Load ControlNet Model").Doc("Loads a ControlNet or a T2I-Adapter.")
	engine.Add(c, "DiffControlNetLoader", "loaders", loadControlDifference{}, r.loadControlDifference).
		Fingerprint(func(in loadControlDifference) (string, error) { return r.fileState("controlnet", string(in.Name)) }).
		Title("Load ControlNet Model (diff)").Doc("Loads a ControlNet that is stored as the difference from a model.")
	engine.Add(c, "ControlNetApply", category, applyControl{Strength: 1}, applyControlNet).Deprecated().
		Title("Apply ControlNet (OLD)").Doc("Steers sampling by a picture, for the negative prompt too.")
	engine.Add(c, "ControlNetApplyAdvanced", category, applyControlAdvanced{Strength: 1, End: 1}, applyControlNetAdvanced).
		Title("Apply ControlNet").Doc("Steers sampling by a picture, in part of the run where asked.")
	engine.Add(c, "SetUnionControlNetType", category, setControlTask{}, setTask).Module("comfy_extras.nodes_controlnet").
		Doc("Tells a union of ControlNets what kind of picture it is given.")
}

type loadControl struct {
	Name controlName `in:"control_net_name"`
}

func (r *Runtime) loadControl(ctx context.Context, in loadControl) (*diffusion.ControlNet, error) {
	path, err := r.Models.Path("controlnet", string(in.Name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadControlNet(ctx, path)
}

type loadControlDifference struct {
	Model *diffusion.Model `in:"model"`
	Name  controlName      `in:"control_net_name"`
}

func (r *Runtime) loadControlDifference(ctx context.Context, in loadControlDifference) (*diffusion.ControlNet, error) {
	if in.Model == nil {
		return nil, errors.New("the MODEL input is empty")
	}
	path, err := r.Models.Path("controlnet", string(in.Name))
	if err != nil {
		return nil, err
	}
	return r.Diffusion.LoadControlDifference(ctx, path, in.Model)
}

// errNoControl explains a CONTROL_NET input that is empty.
var errNoControl = errors.New("the CONTROL_NET input is empty")

type applyControl struct {
	Conditioning diffusion.Conditioning `in:"conditioning"`
	Net          *diffusion.ControlNet  `in:"control_net"`
	Image        diffusion.Image        `in:"image"`
	Strength     float64                `in:"strength" range:"0,10,0.01"`
}

func applyControlNet(_ context.Context, in applyControl) (diffusion.Conditioning, error) {
	if in.Net == nil {
		return nil, errNoControl
	}
	if in.Strength == 0 {
		return in.Conditioning, nil
	}
	add := controls{Net: in.Net, Hint: in.Image, Strength: in.Strength, End: 1}.adder()
	return in.Conditioning.Map(func(e *diffusion.Cond) {
		add(e)
		e.ControlBoth = true
	}), nil
}

type applyControlAdvanced struct {
	Positive diffusion.Conditioning `in:"positive"`
	Negative diffusion.Conditioning `in:"negative"`
	Net      *diffusion.ControlNet  `in:"control_net"`
	Image    diffusion.Image        `in:"image"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
	Start    float64                `in:"start_percent" range:"0,1,0.001"`
	End      float64                `in:"end_percent" range:"0,1,0.001"`
	VAE      *diffusion.VAE         `in:"vae,optional" doc:"For networks that look at latents; those of Stable Diffusion do not."`
}

// twoSides are a positive and a negative conditioning.
type twoSides struct {
	Positive diffusion.Conditioning `out:"positive"`
	Negative diffusion.Conditioning `out:"negative"`
}

func applyControlNetAdvanced(_ context.Context, in applyControlAdvanced) (twoSides, error) {
	if in.Net == nil {
		return twoSides{}, errNoControl
	}
	if in.Strength == 0 {
		return twoSides{in.Positive, in.Negative}, nil
	}
	add := controls{Net: in.Net, Hint: in.Image, Strength: in.Strength, Start: in.Start, End: in.End}.adder()
	return twoSides{in.Positive.Map(add), in.Negative.Map(add)}, nil
}

// controls is what a node adds to every entry, but for the control that an
// entry has already.
type controls diffusion.Control

// adder returns a function that adds the control to entries. Entries with the
// same control before share the new one, so that they can be evaluated
// together.
func (c controls) adder() func(*diffusion.Cond) {
	made := map[*diffusion.Control]*diffusion.Control{}
	return func(e *diffusion.Cond) {
		control := made[e.Control]
		if control == nil {
			n := diffusion.Control(c)
			n.Previous = e.Control
			control = &n
			made[e.Control] = control
		}
		e.Control, e.ControlBoth = control, false
	}
}

type setControlTask struct {
	Net  *diffusion.ControlNet `in:"control_net"`
	Task controlTask           `in:"type"`
}

func setTask(_ context.Context, in setControlTask) (*diffusion.ControlNet, error) {
	if in.Net == nil {
		return nil, errNoControl
	}
	return in.Net.WithTask(slices.Index(controlTasks(), string(in.Task)) - 1)
}
