package imagefile

// samples transforms the blocks of a component into its plane.
func (c *component) samples(quant *[blockLen]uint16) plane {
	p := plane{pix: make([]byte, c.across*c.down*blockLen), width: c.width, height: c.height, stride: 8 * c.across}
	for i := range c.across * c.down {
		x, y := i%c.across, i/c.across
		inverseDCT(p.pix[8*y*p.stride+8*x:], p.stride, c.coefs[i*blockLen:(i+1)*blockLen], quant)
	}
	return p
}

// The constants of Loeffler, Ligtenberg and Moschytz ("Practical fast 1-D DCT
// algorithms with 11 multiplications", 1989) times 2^13, as libjpeg's accurate
// integer transform rounds them. After the columns 2 bits of fraction are kept.
const (
	dctBits  = 13
	dctExtra = 2
	f0298    = 2446
	f0390    = 3196
	f0541    = 4433
	f0765    = 6270
	f0899    = 7373
	f1175    = 9633
	f1501    = 12299
	f1847    = 15137
	f1961    = 16069
	f2053    = 16819
	f2562    = 20995
	f3072    = 25172
)

// inverseDCT writes 8x8 samples: columns first, then rows, rounding each time.
func inverseDCT(dst []byte, stride int, coefs []int16, quant *[blockLen]uint16) {
	var work [blockLen]int32
	for x := range 8 {
		var v [8]int32
		for y := range v {
			v[y] = int32(int16(int32(coefs[8*y+x]) * int32(quant[8*y+x])))
		}
		v = idct8(v, dctBits-dctExtra)
		for y := range v {
			work[8*y+x] = v[y]
		}
	}
	for y := range 8 {
		v := idct8([8]int32(work[8*y:8*y+8]), dctBits+dctExtra+3)
		for x := range v {
			dst[y*stride+x] = clip8(v[x] + 128)
		}
	}
}

// idct8 transforms 8 values and divides the result by 2^shift.
func idct8(in [8]int32, shift int) [8]int32 {
	z1 := (in[2] + in[6]) * f0541
	t2, t3 := z1-in[6]*f1847, z1+in[2]*f0765
	t0, t1 := (in[0]+in[4])<<dctBits, (in[0]-in[4])<<dctBits
	even := [4]int32{t0 + t3, t1 + t2, t1 - t2, t0 - t3}

	t0, t1, t2, t3 = in[7], in[5], in[3], in[1]
	z1, z2, z3, z4 := t0+t3, t1+t2, t0+t2, t1+t3
	z5 := (z3 + z4) * f1175
	z1, z2, z3, z4 = -z1*f0899, -z2*f2562, z5-z3*f1961, z5-z4*f0390
	odd := [4]int32{t3*f1501 + z1 + z4, t2*f3072 + z2 + z3, t1*f2053 + z2 + z4, t0*f0298 + z1 + z3}

	var out [8]int32
	half := int32(1) << (shift - 1)
	for i := range 4 {
		out[i] = (even[i] + odd[i] + half) >> shift
		out[7-i] = (even[i] - odd[i] + half) >> shift
	}
	return out
}
