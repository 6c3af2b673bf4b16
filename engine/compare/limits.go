package compare

import "fmt"

// Limits are what two pictures may be apart at most.
type Limits struct {
	Max   int     // levels; 255 allows everything
	Mean  float64 // levels; 255 allows everything
	SSIM  float64 // at least this; 0 and below are not looked at
	PHash int     // bits; below 0 is not looked at
}

// Default is what pictures of one workflow are held to where nothing else is
// said: ONNX Runtime rounds differently on other processors, which moves a level
// by one here and there.
func Default() Limits { return Limits{Max: 1, Mean: 0.1, PHash: -1} }

// Exceeded lists what a difference has too much of, such as "max 93 (limit 1)";
// nothing for pictures that are close enough.
func (l Limits) Exceeded(d Difference) []string {
	var out []string
	if d.Max > l.Max {
		out = append(out, fmt.Sprintf("max %d (limit %d)", d.Max, l.Max))
	}
	if d.Mean > l.Mean {
		out = append(out, fmt.Sprintf("mean %.3g (limit %g)", d.Mean, l.Mean))
	}
	if l.SSIM > 0 && d.SSIM < l.SSIM {
		out = append(out, fmt.Sprintf("ssim %.4f (limit %g)", d.SSIM, l.SSIM))
	}
	if l.PHash >= 0 && d.PHash > l.PHash {
		out = append(out, fmt.Sprintf("phash %d (limit %d)", d.PHash, l.PHash))
	}
	return out
}

// Check says which limit cannot be one.
func (l Limits) Check() error {
	switch {
	case l.Max < 0 || l.Max > 255:
		return fmt.Errorf("max is %d, allowed are 0 to 255 levels", l.Max)
	case !(l.Mean >= 0 && l.Mean <= 255):
		return fmt.Errorf("mean is %g, allowed are 0 to 255 levels", l.Mean)
	case !(l.SSIM <= 1):
		return fmt.Errorf("ssim is %g, allowed is at most 1", l.SSIM)
	case l.PHash > 64:
		return fmt.Errorf("phash is %d, allowed are 0 to 64 bits", l.PHash)
	}
	return nil
}

// String is the measures in a line.
func (d Difference) String() string {
	if d.Identical() {
		return "identical"
	}
	return fmt.Sprintf("max %d, mean %.3g, ssim %.4f, phash %d", d.Max, d.Mean, d.SSIM, d.PHash)
}
