// Package arch describes model architectures as functions over engine/nn's
// scopes, and tells from a checkpoint's tensor names which family it is of.
//
// An architecture reads its sizes from the checkpoint's own tensor shapes, so a
// small checkpoint of the same layout works like a large one. What the files do
// not state, a Family does. Names are those of the original Stable Diffusion
// checkpoints (the "LDM" layout) and of Hugging Face's CLIP; files in OpenCLIP's
// and in the diffusers layout are seen through wrappers that translate names.
package arch
