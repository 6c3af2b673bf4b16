package compare

import "github.com/comfyrun/comfyrun/engine/imagefile"

// maxGain bounds the amplification of Amplified: a difference of one level stays
// dimmer than one of four.
const maxGain = 64

// Amplified is a picture of the distances of two pictures of the same size, each
// channel's multiplied by gain, so that the largest is as bright as can be; gain
// is 1…64. Distances of alpha are added to all channels.
func Amplified(a, b imagefile.Picture) (p imagefile.Picture, gain int) {
	largest, _ := levels(a, b)
	gain = min(255/max(largest, 1), maxGain)
	p = imagefile.Picture{Width: a.Width, Height: a.Height, RGB: make([]byte, len(a.RGB))}
	for i := range p.RGB {
		d := distance(a.RGB[i], b.RGB[i]) + distance(alpha(a, i/3), alpha(b, i/3))
		p.RGB[i] = byte(min(d*gain, 255))
	}
	return p, gain
}

// Thumbnail shrinks a picture so that neither side is longer than the given one,
// by the mean of whole pixels; smaller pictures stay as they are. Alpha is
// dropped.
func Thumbnail(p imagefile.Picture, side int) imagefile.Picture {
	longer := max(p.Width, p.Height)
	if longer <= side || side < 1 {
		return imagefile.Picture{Width: p.Width, Height: p.Height, RGB: p.RGB}
	}
	out := imagefile.Picture{Width: max(p.Width*side/longer, 1), Height: max(p.Height*side/longer, 1)}
	out.RGB = make([]byte, 0, 3*out.Width*out.Height)
	for y := range out.Height {
		y0, y1 := y*p.Height/out.Height, (y+1)*p.Height/out.Height
		for x := range out.Width {
			x0, x1 := x*p.Width/out.Width, (x+1)*p.Width/out.Width
			c := mean(p, x0, y0, x1, y1)
			out.RGB = append(out.RGB, c[:]...)
		}
	}
	return out
}

// mean is the average colour of a part of a picture.
func mean(p imagefile.Picture, x0, y0, x1, y1 int) (c [3]byte) {
	var sum [3]int
	for y := y0; y < y1; y++ {
		for i, v := range p.RGB[3*(y*p.Width+x0) : 3*(y*p.Width+x1)] {
			sum[i%3] += int(v)
		}
	}
	n := (x1 - x0) * (y1 - y0)
	for i := range c {
		c[i] = byte((sum[i] + n/2) / n)
	}
	return c
}
