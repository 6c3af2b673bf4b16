package imagefile

import "image"

// The chroma planes of JPEG and WebP files are often half as wide and high as
// the picture. Decoders interpolate them ("fancy upsampling"), each in its own
// integer arithmetic; Go's image types only repeat them.

// plane is one channel at full or reduced size.
type plane struct {
	pix           []byte
	width, height int
	stride        int
}

func (p plane) row(y int) []byte {
	y = min(max(y, 0), p.height-1)
	return p.pix[y*p.stride:][:p.width]
}

// jpegRGB is ITU-R BT.601 in full range as libjpeg computes it, in 16-bit fixed
// point. cb and cr are centred at 0.
func jpegRGB(y, cb, cr int32) (r, g, b uint8) {
	const half = 1 << 15 // the factors are 1.402, 0.34414, 0.71414 and 1.772 times 2^16
	r = clip8(y + (91881*cr+half)>>16)
	g = clip8(y + (-22554*cb-46802*cr+half)>>16)
	return r, g, clip8(y + (116130*cb+half)>>16)
}

func clip8(v int32) uint8 { return uint8(min(max(v, 0), 255)) }

// jpegRow is row y of a plane that is h times narrower and v times lower than
// the picture, at full size. As in libjpeg a triangle filter (3/4 of the nearer
// and 1/4 of the farther sample) doubles in each direction; other ratios
// repeat samples.
func (p plane) jpegRow(y, h, v, width int) []byte {
	out := make([]byte, width+h)
	near := p.row(y / v)
	if h > 2 || p.width <= 2 && h == 2 {
		for x := range width {
			out[x] = near[x/h]
		}
		return out
	}
	far, bias := near, [2]int32{1, 2}
	if v == 2 {
		far, bias = p.row(y/2-1+y%2*2), [2]int32{8, 7}
	}
	if h == 1 {
		for x := range width {
			out[x] = near[x]
			if v == 2 {
				out[x] = uint8((3*int32(near[x]) + int32(far[x]) + 1 + int32(y%2)) >> 2)
			}
		}
		return out
	}
	sum, shift := func(x int) int32 { return int32(near[x]) }, 2
	if v == 2 {
		sum, shift = func(x int) int32 { return 3*int32(near[x]) + int32(far[x]) }, 4
	}
	for x := range p.width {
		here, left, right := sum(x), sum(max(x-1, 0)), sum(min(x+1, p.width-1))
		out[2*x] = uint8((3*here + left + bias[0]) >> shift)
		out[2*x+1] = uint8((3*here + right + bias[1]) >> shift)
	}
	return out
}

// fromWebP converts as libwebp does: the four chroma samples around a pixel
// weigh 9, 3, 3 and 1 sixteenths, in two rounding steps, and BT.601 in studio
// range with 14-bit factors.
func fromWebP(img *image.YCbCr) Picture {
	p := newPicture(img.Rect.Dx(), img.Rect.Dy())
	w, h := (p.Width+1)/2, (p.Height+1)/2 // decoders make the planes larger, in whole blocks
	cb, cr := plane{img.Cb, w, h, img.CStride}, plane{img.Cr, w, h, img.CStride}
	for y := range p.Height {
		blue, red := cb.webpRow(y, p.Width), cr.webpRow(y, p.Width)
		luma := img.Y[y*img.YStride:]
		for x := range p.Width {
			r, g, b := webpRGB(int32(luma[x]), int32(blue[x]), int32(red[x]))
			at := 3 * (y*p.Width + x)
			p.RGB[at], p.RGB[at+1], p.RGB[at+2] = r, g, b
		}
	}
	return p
}

func webpRGB(y, u, v int32) (r, g, b uint8) {
	luma := y * 19077 >> 8
	r = clip14(luma + v*26149>>8 - 14234)
	g = clip14(luma - u*6419>>8 - v*13320>>8 + 8708)
	return r, g, clip14(luma + u*33050>>8 - 17685)
}

func clip14(v int32) uint8 { return clip8(v >> 6) }

// webpRow is row y of the plane at full size.
func (p plane) webpRow(y, width int) []byte {
	out := make([]byte, width)
	near, far := p.row(y/2), p.row(y/2-1+y%2*2)
	for x := range width {
		c := x / 2
		side := min(max(c-1+x%2*2, 0), p.width-1)
		a, b := int32(near[c]), int32(near[side])
		d, e := int32(far[c]), int32(far[side])
		if side == c {
			out[x] = uint8((3*a + d + 2) >> 2)
			continue
		}
		// a is the nearest sample, e the one across; b and d lie between.
		diagonal := (a + b + d + e + 8 + 2*(b+d)) >> 3
		out[x] = uint8((diagonal + a) >> 1)
	}
	return out
}
