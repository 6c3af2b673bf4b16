package nodes

import (
	"context"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
)

// latentPixel is the number of picture pixels that a latent pixel spans.
const latentPixel = 8

func addConditioningAreas(c *engine.Catalog) {
	engine.Add(c, "ConditioningSetArea", "conditioning", setArea{Width: 64, Height: 64, Strength: 1}, conditioningArea).
		Title("Conditioning (Set Area)").Doc("Applies a prompt to a rectangle, in pixels.")
	engine.Add(c, "ConditioningSetAreaPercentage", "conditioning", setAreaPercentage{Width: 1, Height: 1, Strength: 1}, conditioningAreaPercentage).
		Title("Conditioning (Set Area with Percentage)").Doc("Applies a prompt to a rectangle, in fractions of the picture.")
	engine.Add(c, "ConditioningSetAreaStrength", "conditioning", setAreaStrength{Strength: 1}, conditioningAreaStrength).
		Title("ConditioningSetAreaStrength").Doc("Weighs a prompt against others at the same place.")
	engine.Add(c, "ConditioningSetMask", "conditioning", setMask{Strength: 1, Area: "default"}, conditioningMask).
		Title("Conditioning (Set Mask)").Doc("Applies a prompt where a mask is white.")
}

type setArea struct {
	In       diffusion.Conditioning `in:"conditioning"`
	Width    int                    `in:"width" range:"64,16384,8"`
	Height   int                    `in:"height" range:"64,16384,8"`
	X        int                    `in:"x" range:"0,16384,8"`
	Y        int                    `in:"y" range:"0,16384,8"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
}

func conditioningArea(_ context.Context, in setArea) (diffusion.Conditioning, error) {
	px := func(v int) float64 { return float64(v / latentPixel) }
	area := diffusion.Area{Height: px(in.Height), Width: px(in.Width), Y: px(in.Y), X: px(in.X)}
	return in.In.Map(func(e *diffusion.Cond) {
		e.Area, e.Strength, e.MaskBounds = &area, in.Strength, false
	}), nil
}

type setAreaPercentage struct {
	In       diffusion.Conditioning `in:"conditioning"`
	Width    float64                `in:"width" range:"0,1,0.01"`
	Height   float64                `in:"height" range:"0,1,0.01"`
	X        float64                `in:"x" range:"0,1,0.01"`
	Y        float64                `in:"y" range:"0,1,0.01"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
}

func conditioningAreaPercentage(_ context.Context, in setAreaPercentage) (diffusion.Conditioning, error) {
	area := diffusion.Area{Height: in.Height, Width: in.Width, Y: in.Y, X: in.X, Percent: true}
	return in.In.Map(func(e *diffusion.Cond) {
		e.Area, e.Strength, e.MaskBounds = &area, in.Strength, false
	}), nil
}

type setAreaStrength struct {
	In       diffusion.Conditioning `in:"conditioning"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
}

func conditioningAreaStrength(_ context.Context, in setAreaStrength) (diffusion.Conditioning, error) {
	return in.In.Map(func(e *diffusion.Cond) { e.Strength = in.Strength }), nil
}

type setMask struct {
	In       diffusion.Conditioning `in:"conditioning"`
	Mask     diffusion.Mask         `in:"mask"`
	Strength float64                `in:"strength" range:"0,10,0.01"`
	Area     maskArea               `in:"set_cond_area" ui:"nodefault"`
}

func conditioningMask(_ context.Context, in setMask) (diffusion.Conditioning, error) {
	return in.In.Map(func(e *diffusion.Cond) {
		e.Mask, e.MaskStrength, e.MaskBounds = in.Mask.Tensor, in.Strength, in.Area != "default"
	}), nil
}
