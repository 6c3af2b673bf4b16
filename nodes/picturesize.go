package nodes

import "github.com/comfyrun/comfyrun/engine/diffusion"

// PictureSize measures a value that travels over a link: the width and height in pixels of a batch of pictures or masks. Other values
// are no pictures.
func PictureSize(v any) (width, height int, picture bool) {
	switch v := v.(type) {
	case diffusion.Image:
		if v.Tensor != nil && len(v.Shape) == 4 {
			return v.Shape[2], v.Shape[1], true
		}
	case diffusion.Mask:
		if v.Tensor != nil && len(v.Shape) == 3 {
			return v.Shape[2], v.Shape[1], true
		}
	}
	return 0, 0, false
}
