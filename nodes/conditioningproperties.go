package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// hooks would change weights during a run. No node makes one, so inputs of the
// kind stay empty.
type hooks struct{}

// runPart is a part of a run, in fractions of its progress.
type runPart struct{ Start, End float64 }

// propertyKinds are the sockets of addConditioningProperties.
func propertyKinds() []engine.Kind {
	return []engine.Kind{engine.Socket[hooks]("HOOKS"), engine.Socket[runPart]("TIMESTEPS_RANGE")}
}

// addConditioningProperties declares the nodes that set mask and time of
// prompts at once, alone or in pairs of positive and negative.
func addConditioningProperties(c *engine.Catalog) {
	const single, pair, module = "advanced/hooks/cond single", "advanced/hooks/cond pair", "comfy_extras.nodes_hooks"
	engine.Add(c, "ConditioningTimestepsRange", "advanced/hooks", partOfRun{End: 1}, splitRun).Module(module).Experimental().
		Title("Timesteps Range").Doc("Names a part of a run, and what comes before and after it.")
	engine.Add(c, "ConditioningSetProperties", single, setProperties{Strength: 1}, setOne).Module(module).Experimental().
		Title("Cond Set Props").Doc("Applies a prompt where a mask is white, and in part of the run only.")
	engine.Add(c, "ConditioningSetPropertiesAndCombine", single, addWithProperties{Strength: 1}, setAndAddOne).Module(module).Experimental().
		Title("Cond Set Props Combine").Doc("Adds a prompt to another, for where a mask is white and for part of the run only.")
	engine.Add(c, "ConditioningSetDefaultCombine", single, addDefault{}, addFallback).Module(module).Experimental().
		Title("Cond Set Default Combine").Doc("Adds a prompt for where the other one does not apply.")
	engine.Add(c, "PairConditioningSetProperties", pair, setPairProperties{Strength: 1}, setPair).Module(module).Experimental().
		Title("Cond Pair Set Props").Doc("Applies both prompts where a mask is white, and in part of the run only.")
	engine.Add(c, "PairConditioningSetPropertiesAndCombine", pair, addPairWithProperties{Strength: 1}, setAndAddPair).Module(module).Experimental().
		Title("Cond Pair Set Props Combine").Doc("Adds two prompts to two others, for where a mask is white and for part of the run only.")
	engine.Add(c, "PairConditioningSetDefaultCombine", pair, addPairDefault{}, addPairFallback).Module(module).Experimental().
		Title("Cond Pair Set Default Combine").Doc("Adds two prompts for where the others do not apply.")
	engine.Add(c, "PairConditioningCombine", pair, twoPairs{}, combinePairs).Module(module).Experimental().
		Title("Cond Pair Combine").Doc("Joins the positive and the negative prompts of two pairs.")
}

type partOfRun struct {
	Start float64 `in:"start_percent" range:"0,1,0.001"`
	End   float64 `in:"end_percent" range:"0,1,0.001"`
}

type partsOfRun struct {
	Part   runPart `out:"TIMESTEPS_RANGE"`
	Before runPart `out:"BEFORE_RANGE"`
	After  runPart `out:"AFTER_RANGE"`
}

func splitRun(_ context.Context, in partOfRun) (partsOfRun, error) {
	return partsOfRun{Part: runPart(in), Before: runPart{0, in.Start}, After: runPart{in.End, 1}}, nil
}

// properties are what the nodes set. Without a mask the strength means nothing.
type properties struct {
	strength float64
	area     maskArea
	mask     *diffusion.Mask
	part     *runPart
}

// of returns a conditioning with the properties.
func (p properties) of(c diffusion.Conditioning) diffusion.Conditioning {
	return c.Map(func(e *diffusion.Cond) {
		if p.mask != nil {
			e.Mask, e.MaskStrength, e.MaskBounds = p.mask.Tensor, p.strength, p.area != "default"
		}
		if p.part != nil {
			e.Start, e.End = p.part.Start, p.part.End
		}
	})
}

// both joins two conditionings.
func both(a, b diffusion.Conditioning) diffusion.Conditioning {
	return append(append(diffusion.Conditioning{}, a...), b...)
}

type setProperties struct {
	New      diffusion.Conditioning `in:"cond_NEW"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
	Area     maskArea               `in:"set_cond_area" ui:"nodefault"`
	Mask     *diffusion.Mask        `in:"mask,optional"`
	Hooks    *hooks                 `in:"hooks,optional"`
	Part     *runPart               `in:"timesteps,optional"`
}

func setOne(_ context.Context, in setProperties) (diffusion.Conditioning, error) {
	p := properties{in.Strength, in.Area, in.Mask, in.Part}
	return p.of(in.New), nil
}

type addWithProperties struct {
	Old      diffusion.Conditioning `in:"cond"`
	New      diffusion.Conditioning `in:"cond_NEW"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
	Area     maskArea               `in:"set_cond_area" ui:"nodefault"`
	Mask     *diffusion.Mask        `in:"mask,optional"`
	Hooks    *hooks                 `in:"hooks,optional"`
	Part     *runPart               `in:"timesteps,optional"`
}

func setAndAddOne(_ context.Context, in addWithProperties) (diffusion.Conditioning, error) {
	p := properties{in.Strength, in.Area, in.Mask, in.Part}
	return both(in.Old, p.of(in.New)), nil
}

type setPairProperties struct {
	Positive diffusion.Conditioning `in:"positive_NEW"`
	Negative diffusion.Conditioning `in:"negative_NEW"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
	Area     maskArea               `in:"set_cond_area" ui:"nodefault"`
	Mask     *diffusion.Mask        `in:"mask,optional"`
	Hooks    *hooks                 `in:"hooks,optional"`
	Part     *runPart               `in:"timesteps,optional"`
}

func setPair(_ context.Context, in setPairProperties) (twoSides, error) {
	p := properties{in.Strength, in.Area, in.Mask, in.Part}
	return twoSides{p.of(in.Positive), p.of(in.Negative)}, nil
}

type addPairWithProperties struct {
	Positive    diffusion.Conditioning `in:"positive"`
	Negative    diffusion.Conditioning `in:"negative"`
	NewPositive diffusion.Conditioning `in:"positive_NEW"`
	NewNegative diffusion.Conditioning `in:"negative_NEW"`
	Strength    float64                `in:"strength" range:"0,10,0.01"`
	Area        maskArea               `in:"set_cond_area" ui:"nodefault"`
	Mask        *diffusion.Mask        `in:"mask,optional"`
	Hooks       *hooks                 `in:"hooks,optional"`
	Part        *runPart               `in:"timesteps,optional"`
}

func setAndAddPair(_ context.Context, in addPairWithProperties) (twoSides, error) {
	p := properties{in.Strength, in.Area, in.Mask, in.Part}
	return twoSides{both(in.Positive, p.of(in.NewPositive)), both(in.Negative, p.of(in.NewNegative))}, nil
}

type addDefault struct {
	Cond     diffusion.Conditioning `in:"cond"`
	Fallback diffusion.Conditioning `in:"cond_DEFAULT"`
	Hooks    *hooks                 `in:"hooks,optional"`
}

// asFallback limits prompts to where others do not apply.
func asFallback(c diffusion.Conditioning) diffusion.Conditioning {
	return c.Map(func(e *diffusion.Cond) { e.Fallback = true })
}

func addFallback(_ context.Context, in addDefault) (diffusion.Conditioning, error) {
	return both(in.Cond, asFallback(in.Fallback)), nil
}

type addPairDefault struct {
	Positive         diffusion.Conditioning `in:"positive"`
	Negative         diffusion.Conditioning `in:"negative"`
	FallbackPositive diffusion.Conditioning `in:"positive_DEFAULT"`
	FallbackNegative diffusion.Conditioning `in:"negative_DEFAULT"`
	Hooks            *hooks                 `in:"hooks,optional"`
}

func addPairFallback(_ context.Context, in addPairDefault) (twoSides, error) {
	return twoSides{both(in.Positive, asFallback(in.FallbackPositive)), both(in.Negative, asFallback(in.FallbackNegative))}, nil
}

type twoPairs struct {
	PositiveA diffusion.Conditioning `in:"positive_A"`
	NegativeA diffusion.Conditioning `in:"negative_A"`
	PositiveB diffusion.Conditioning `in:"positive_B"`
	NegativeB diffusion.Conditioning `in:"negative_B"`
}

func combinePairs(_ context.Context, in twoPairs) (twoSides, error) {
	return twoSides{both(in.PositiveA, in.PositiveB), both(in.NegativeA, in.NegativeB)}, nil
}
