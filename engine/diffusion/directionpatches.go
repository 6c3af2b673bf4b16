package diffusion

import (
	"fmt"
	"math"
	"math/cmplx"

	"github.com/comfyrun/comfyrun/engine/tensor"
)

// APG are the settings of AdaptiveProjection.
type APG struct {
	// Along weighs the part of the direction that lies along the conditional
	// prediction: eta of the paper.
	Along float64
	// Longest limits the length of the direction, per image; 0 sets no limit.
	Longest float64
	// Momentum of the steps before goes into the direction, negative to lead
	// away from it.
	Momentum float64
}

// AdaptiveProjection takes the direction of guidance, cond - uncond, as a
// running sum over the steps, limits its length d, divides it into a part along
// cond and a perpendicular one, and leads to cond + cfg·(perpendicular +
// Along·parallel). A run that begins anew, at a higher level, forgets the sum.
// Source: Sadat et al., Eliminating Oversaturation and Artifacts of High
// Guidance Scales in Diffusion Models, 2024, algorithm 1; it has cfg-1 where
// ComfyUI, which this follows, has cfg.
func AdaptiveProjection(p APG) Patch {
	return Patch{name: fmt.Sprintf("apg %+v", p), start: func(*guidance) (hooks, error) {
		var sum *tensor.Tensor
		last := float32(math.Inf(1))
		return hooks{before: func(c *call) error {
			if !c.both {
				return nil
			}
			if c.sigma > last {
				sum = nil
			}
			last = c.sigma
			direction := minus(c.cond, c.uncond)
			if p.Momentum != 0 {
				if sum != nil {
					addScaled(direction, sum, float32(p.Momentum))
				}
				sum = direction.Clone()
			}
			p.lead(c, direction)
			return nil
		}}, nil
	}}
}

// lead puts in the place of cond what makes the guided prediction go along the
// direction.
func (p APG) lead(c *call, direction *tensor.Tensor) {
	out := tensor.New(c.cond.Shape...)
	for b := range c.cond.Dim(0) {
		d, cond, uncond, dst := direction.Index(b).Data, c.cond.Index(b).Data, c.uncond.Index(b).Data, out.Index(b).Data
		if length := norm(d); p.Longest > 0 && length > p.Longest {
			scale(d, float32(p.Longest/length))
		}
		var dot float64
		for i, v := range d {
			dot += float64(v) * float64(cond[i])
		}
		square := norm(cond) * norm(cond)
		if square == 0 {
			square = 1
		}
		along := float32(dot / square)
		for i, v := range d {
			parallel := along * cond[i]
			moved := (v - parallel) + float32(float32(p.Along)*parallel)
			dst[i] = uncond[i] + moved + (cond[i]-uncond[i])/float32(c.cfg)
		}
	}
	c.cond = out
}

func minus(a, b *tensor.Tensor) *tensor.Tensor {
	out := tensor.New(a.Shape...)
	for i, v := range a.Data {
		out.Data[i] = v - b.Data[i]
	}
	return out
}

// addScaled adds b·f to a.
func addScaled(a, b *tensor.Tensor, f float32) {
	for i, v := range b.Data {
		a.Data[i] += v * f
	}
}

// FreSca are the settings of ScaleFrequencies.
type FreSca struct {
	Low, High float64 // factors
	// Cutoff divides the frequencies, in waves per side: low are those from
	// -Cutoff to Cutoff-1 in both directions.
	Cutoff int
}

// ScaleFrequencies multiplies low and high frequencies of the direction of
// guidance, cond - uncond, by factors of their own.
// Source: Huang et al., FreSca: Scaling in Frequency Space Enhances Diffusion
// Models, 2025.
func ScaleFrequencies(f FreSca) Patch {
	return Patch{name: fmt.Sprintf("fresca %+v", f), start: fixed(hooks{before: func(c *call) error {
		if !c.both {
			return nil
		}
		return changeDirection(c, f.apply)
	}})}
}

// apply scales the frequencies of planes [batch, channel, height, width].
func (f FreSca) apply(t *tensor.Tensor) (*tensor.Tensor, error) {
	h, w := t.Dim(2), t.Dim(3)
	rows, columns := newBand(h, f.Cutoff), newBand(w, f.Cutoff)
	out := tensor.New(t.Shape...)
	for at := 0; at < len(t.Data); at += h * w {
		low := lowBand(t.Data[at:at+h*w], rows, columns)
		for i, v := range t.Data[at : at+h*w] {
			out.Data[at+i] = float32(f.High*float64(v) + (f.Low-f.High)*low[i])
		}
	}
	return out, nil
}

// band is a range of the frequencies of an axis: wave k at place i is
// turn[(first+k)·i mod n].
type band struct {
	n, first, count int
	turn            []complex128
}

func newBand(n, cutoff int) band {
	half := min(cutoff, n/2)
	b := band{n: n, first: n - half, count: 2 * half}
	for i := range n {
		b.turn = append(b.turn, cmplx.Rect(1, 2*math.Pi*float64(i)/float64(n)))
	}
	return b
}

// wave returns e^(2πi·k·at/n) of the band's wave k.
func (b band) wave(k, at int) complex128 { return b.turn[(b.first+k)*at%b.n] }

// lowBand returns the real part of a plane's frequencies inside both bands.
func lowBand(plane []float32, rows, columns band) []float64 {
	h, w := rows.n, columns.n
	half := make([]complex128, h*columns.count) // frequencies of each row
	for y := range h {
		for k := range columns.count {
			for x := range w {
				half[y*columns.count+k] += complex(float64(plane[y*w+x]), 0) * cmplx.Conj(columns.wave(k, x))
			}
		}
	}
	kept := make([]complex128, h*columns.count) // those inside both bands, of each row again
	for k := range columns.count {
		for l := range rows.count {
			var sum complex128
			for y := range h {
				sum += half[y*columns.count+k] * cmplx.Conj(rows.wave(l, y))
			}
			for y := range h {
				kept[y*columns.count+k] += sum * rows.wave(l, y)
			}
		}
	}
	out := make([]float64, h*w)
	for i := range out {
		var sum float64
		for k := range columns.count {
			sum += real(kept[i/w*columns.count+k] * columns.wave(k, i%w))
		}
		out[i] = sum / float64(h*w)
	}
	return out
}
