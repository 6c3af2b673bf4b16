package diffusion

import "github.com/comfyrun/comfyrun/engine/tensor"

// fallbacks returns the entries of a list that are only for where the others
// leave room, each with a mask of how much that is: 1 less the weights of the
// others, at least 0. It takes the place of an entry's own strength, mask and
// feathered edges. There are none when no room is left anywhere.
func fallbacks(list []region, x *tensor.Tensor, sigma float32) []region {
	var out []region
	for _, r := range list {
		if r.fallback && r.applies(sigma) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil
	}
	room := roomLeft(list, x.Shape, sigma)
	if room.IsZero() {
		return nil
	}
	for i := range out {
		out[i].strength, out[i].mask = 1, room
	}
	return out
}

// roomLeft returns 1 less the weights of the entries that are no fallbacks,
// [batch, height, width].
func roomLeft(list []region, shape tensor.Shape, sigma float32) *tensor.Tensor {
	batch, height, width := shape[0], shape[2], shape[3]
	sum, count := tensor.New(batch, 1, height, width), tensor.New(batch, 1, height, width)
	for _, r := range list {
		if !r.fallback && r.applies(sigma) {
			r.accumulate(sum, count, tensor.New(batch, 1, r.area.height, r.area.width))
		}
	}
	room := tensor.Of(count.Data, batch, height, width)
	for i, taken := range room.Data {
		room.Data[i] = max(0, 1-taken)
	}
	return room
}
