package diffusion

import (
	"math"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// region is a Cond resolved for one run: sizes in latent pixels, times as noise
// levels.
type region struct {
	// inputs of the network beside picture and timestep, such as "context", the
	// text states [1, tokens, width].
	inputs     map[string]*tensor.Tensor
	channels   *tensor.Tensor // more channels of the network's picture, of the whole latent, or nil
	area       rect
	hasArea    bool
	strength   float32
	mask       *tensor.Tensor // [batch, height, width] of the whole latent, or nil
	start, end float64        // noise levels between which it applies
	control    *Control
	// controlText is the context of the control, nil for that of inputs.
	controlText *tensor.Tensor
	fallback    bool // only for where no other entry applies
	// controlBoth has the control apply to other lists too.
	controlBoth bool
}

// rect is a rectangle of a latent.
type rect struct{ y, x, height, width int }

// regions resolves a conditioning for the run's latents.
func (j *run) regions(c Conditioning, negative bool) ([]region, error) {
	m, shape := j.model.schedule, j.latent.Shape
	var out []region
	for _, e := range c {
		inputs, err := j.model.inputs(e, side{shape, negative})
		if err != nil {
			return nil, err
		}
		r := region{
			inputs: inputs, strength: float32(e.Strength), area: rect{height: shape[2], width: shape[3]},
			start: m.PercentToSigma(e.Start), end: m.PercentToSigma(e.End),
			control: e.Control, controlText: e.ControlText, controlBoth: e.ControlBoth, fallback: e.Fallback,
		}
		if e.Start <= 0 {
			r.start = math.Inf(1)
		}
		if e.Area != nil {
			r.area, r.hasArea = e.Area.resolve(shape[2], shape[3]), true
		}
		if e.Mask != nil {
			if err := r.setMask(e, shape); err != nil {
				return nil, err
			}
		}
		r.area = r.area.clip(shape[2], shape[3])
		if r.channels, err = j.moreChannels(e); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	return out, nil
}

// resolve returns the area in latent pixels.
func (a Area) resolve(height, width int) rect {
	if !a.Percent {
		return rect{y: int(a.Y), x: int(a.X), height: int(a.Height), width: int(a.Width)}
	}
	h, w := float64(height), float64(width)
	return rect{
		y: int(math.RoundToEven(a.Y * h)), x: int(math.RoundToEven(a.X * w)),
		height: max(1, int(math.RoundToEven(a.Height*h))), width: max(1, int(math.RoundToEven(a.Width*w))),
	}
}

// clip cuts the rectangle at the latent's lower and right border.
func (r rect) clip(height, width int) rect {
	r.y, r.x = min(r.y, height-1), min(r.x, width-1)
	r.height, r.width = min(r.height, height-r.y), min(r.width, width-r.x)
	return r
}

// setMask resizes the mask to the latent and, where asked, narrows the area to
// the mask's bounding box.
func (r *region) setMask(e Cond, shape tensor.Shape) error {
	planes, err := latentMask(e.Mask, shape)
	if err != nil {
		return err
	}
	r.mask = tensor.New(planes.Dim(0), shape[2], shape[3])
	for i, v := range planes.Data {
		r.mask.Data[i] = v * float32(e.MaskStrength)
	}
	if e.MaskBounds {
		r.area, r.hasArea = bounds(planes), true
	}
	return nil
}

// bounds returns the box around the non-zero pixels of masks [batch, 1, h, w],
// at least 8 on each side; for none it is the upper left corner.
func bounds(masks *tensor.Tensor) rect {
	h, w := masks.Dim(2), masks.Dim(3)
	y0, x0, y1, x1 := h, w, -1, -1
	for i, v := range masks.Data {
		if v == 0 {
			continue
		}
		y, x := i/w%h, i%w
		y0, x0, y1, x1 = min(y0, y), min(x0, x), max(y1, y), max(x1, x)
	}
	if y1 < 0 {
		return rect{height: 8, width: 8}
	}
	return rect{y: y0, x: x0, height: max(8, y1-y0+1), width: max(8, x1-x0+1)}
}

// tokens returns the length of the region's text.
func (r region) tokens() int { return r.inputs["context"].Dim(1) }

// applies reports whether the region takes part at a noise level.
func (r region) applies(sigma float32) bool {
	s := float64(sigma)
	return s <= r.start && s >= r.end
}

// withSameArea makes sure that list has an entry for r's area, so that guidance
// finds both sides everywhere. The new entry takes its inputs from the smallest
// entry of the list that encloses the area.
func withSameArea(list []region, r region) []region {
	if !r.hasArea {
		return list
	}
	best := -1
	for i, c := range list {
		if c.hasArea && !c.area.encloses(r.area) {
			continue
		}
		if best < 0 || list[best].closerThan(c) {
			best = i
		}
	}
	if best < 0 || list[best].hasArea && list[best].area == r.area {
		return list
	}
	r.inputs, r.channels, r.controlText = list[best].inputs, list[best].channels, list[best].controlText
	return append(list, r)
}

// closerThan reports whether c is a better match than r for an area that both
// enclose: an area beats none, a smaller one a larger one.
func (r region) closerThan(c region) bool {
	if !c.hasArea {
		return false
	}
	return !r.hasArea || r.area.height*r.area.width > c.area.height*c.area.width
}

func (r rect) encloses(o rect) bool {
	return o.x >= r.x && o.y >= r.y && o.x+o.width <= r.x+r.width && o.y+o.height <= r.y+r.height
}

// crop returns the rectangle of latents [batch, channel, height, width].
func (r rect) crop(x *tensor.Tensor) *tensor.Tensor {
	h, w := x.Dim(2), x.Dim(3)
	if r == (rect{height: h, width: w}) {
		return x
	}
	out := tensor.New(x.Dim(0), x.Dim(1), r.height, r.width)
	for plane := range x.Dim(0) * x.Dim(1) {
		for y := range r.height {
			copy(out.Data[(plane*r.height+y)*r.width:][:r.width], x.Data[(plane*h+r.y+y)*w+r.x:])
		}
	}
	return out
}

// accumulate adds a weighted prediction to sum, and the weights to count.
func (r region) accumulate(sum, count, prediction *tensor.Tensor) {
	h, w, channels := sum.Dim(2), sum.Dim(3), sum.Dim(1)
	rows, cols := r.feather(h, w)
	for plane := range sum.Dim(0) * channels {
		var mask []float32
		if r.mask != nil {
			mask = r.mask.Index(plane / channels % r.mask.Dim(0)).Data
		}
		for y := range r.area.height {
			for x := range r.area.width {
				weight := r.strength
				if mask != nil {
					weight *= mask[(r.area.y+y)*w+r.area.x+x]
				}
				weight = weight * rows[y] * cols[x]
				at := (plane*h+r.area.y+y)*w + r.area.x + x
				sum.Data[at] += prediction.Data[(plane*r.area.height+y)*r.area.width+x] * weight
				count.Data[at] += weight
			}
		}
	}
}

// feather returns the weights of an area's rows and columns: they rise over up
// to 8 from each edge that is not the latent's border. Areas with a mask are
// not feathered.
func (r region) feather(height, width int) (rows, cols []float32) {
	rows, cols = ones(r.area.height), ones(r.area.width)
	if !r.hasArea || r.mask != nil {
		return rows, cols
	}
	ramp(rows, r.area.y != 0, r.area.y+r.area.height < height)
	ramp(cols, r.area.x != 0, r.area.x+r.area.width < width)
	return rows, cols
}

func ones(n int) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = 1
	}
	return out
}

// ramp multiplies the first and last weights by 1/n, 2/n, …
func ramp(weights []float32, first, last bool) {
	n := min(8, len(weights)/4)
	for t := range n {
		f := float32(t+1) / float32(n)
		if first {
			weights[t] *= f
		}
		if last {
			weights[len(weights)-1-t] *= f
		}
	}
}
