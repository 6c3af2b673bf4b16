// Package archtest has every architecture of engine/arch over files of random
// weights, most of them small, so that tests can build and run them all.
package archtest

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/nn"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

// Network is an architecture over the weights of a file.
type Network struct {
	Weights nn.Weights
	Build   func(nn.Scope)
	// File lists the tensors of the file.
	File File
	// Large says that the network has its real size: it can be built, and takes
	// too long to run.
	Large bool
}

// File lists tensors by name.
type File map[string]tensor.Shape

// Names is that of nn.Weights.
func (f File) Names() []string { return slices.Sorted(maps.Keys(f)) }

// Lookup is that of nn.Weights. Most weights are said to be converted in any
// case, as half precision is on the CPU.
func (f File) Lookup(name string) (nn.Source, bool) {
	s, ok := f[name]
	return nn.Source{Shape: s, From: []string{name}, Derive: !strings.Contains(name, "output_blocks")}, ok
}

// list holds networks by name.
type list map[string]Network

// Networks returns every architecture by name.
func Networks(t testing.TB) map[string]Network {
	t.Helper()
	all := list{}
	for _, name := range []string{"sd15-tiny-fp16", "sd21-tiny-fp16", "sdxl-tiny-fp16", "sdxl-refiner-tiny-fp16", "sd15-inpaint-tiny-fp16", "sd15-full-fp16"} {
		all.addCheckpoint(t, name)
	}
	f := File(weightstest.RealUNets()["sdxl"].Shapes())
	sdxl, err := arch.DetectUNet(f)
	must(t, err)
	all["sdxl-full unet"] = Network{sdxl.Model, sdxl.UNet.Build, f, true}
	all.addWide(t)
	all.addVariants(t)
	all.addControlNets(t)
	all.addAdapters(t)
	all.addUpscalers(t)
	all.addTAESD()
	return all
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fileOf is one of weightstest's lists.
func fileOf(t testing.TB, name string) File {
	t.Helper()
	shapes, err := weightstest.Shapes(name)
	must(t, err)
	return shapes
}

// addCheckpoint adds the parts of a checkpoint.
func (l list) addCheckpoint(t testing.TB, name string) {
	f := fileOf(t, name)
	c, err := arch.Detect(f)
	must(t, err)
	large := strings.Contains(name, "full")
	l[name+" unet"] = Network{c.Model, c.UNet.Build, f, large}
	l[name+" vae decoder"] = Network{arch.Decoder(c.VAE), arch.VAEDecoder, f, large}
	l[name+" vae encoder"] = Network{arch.Encoder(c.VAE), arch.VAEEncoder, f, large}
	for _, text := range c.Text {
		l[name+" "+text.Name] = Network{arch.Tower(text.Weights), text.Net.Build, f, large}
	}
}

// addWide adds a UNet of few blocks which are as wide as those of Stable
// Diffusion, for operators that are made for these widths.
func (l list) addWide(t testing.TB) {
	f := File(weightstest.UNet{Channels: 320, In: 4, Multiples: []int{1}, Depths: []int{1}, Middle: -2, Blocks: 1, Context: 64}.Shapes())
	c, err := arch.DetectUNet(f)
	must(t, err)
	l["wide unet"] = Network{c.Model, c.UNet.Build, f, false}
}

// addVariants adds a UNet with each patch, with and without residuals.
func (l list) addVariants(t testing.TB) {
	f := fileOf(t, "sd15-tiny-fp16")
	c, err := arch.Detect(f)
	must(t, err)
	patches := []arch.Patch{arch.FreeU{}, arch.FreeU{Normalised: true}, arch.IdentityAttention{}, arch.RecordAttention{}}
	for _, r := range []nn.Resampling{nn.ByArea, nn.ByCubic, nn.ByLinear, nn.ByNearest} {
		patches = append(patches, arch.Downscale{Block: 3, Factor: 2, Down: r, Up: r}, arch.Downscale{Block: 2, Factor: 1.5, AfterSkip: true, Down: r, Up: r})
	}
	for _, p := range patches {
		u := c.UNet
		u.Patches = []arch.Patch{p}
		l["unet "+p.Variant()] = Network{c.Model, u.Build, f, false}
		u.Steered = true
		l["steered unet "+p.Variant()] = Network{c.Model, u.Build, f, false}
	}
}

// addControlNets adds a ControlNet and a union of two.
func (l list) addControlNets(t testing.TB) {
	f := fileOf(t, "controlnet-sd15-tiny-fp16")
	for name, f := range map[string]File{"controlnet": f, "controlnet union": unionOf(f)} {
		c, err := arch.DetectControlNet(f)
		must(t, err)
		c.Task = c.Tasks - 1
		l[name] = Network{c.Net, c.Build, f, false}
		l[name+" hint"] = Network{c.Hint, c.BuildHint, f, false}
	}
}

// addAdapters adds both kinds of T2I-Adapters.
func (l list) addAdapters(t testing.TB) {
	for name, f := range map[string]File{"adapter": fullAdapter(), "light adapter": lightAdapter()} {
		a, err := arch.DetectAdapter(f)
		must(t, err)
		l[name] = Network{a.Weights, a.Build, f, false}
	}
}

// addUpscalers adds networks that enlarge pictures.
func (l list) addUpscalers(t testing.TB) {
	for name, f := range map[string]File{
		"esrgan x4": fileOf(t, "esrgan-x4-tiny"), "esrgan x2": fileOf(t, "esrgan-x2-old-tiny"), "compact": compact(),
	} {
		u, err := arch.DetectUpscaler(f)
		must(t, err)
		l[name] = Network{u.Weights, u.Build, f, false}
	}
}

// addTAESD adds both halves of a tiny autoencoder.
func (l list) addTAESD() {
	tiny := arch.TAESD{Scale: 0.18215, Shift: 0.1}
	l["taesd decoder"] = Network{tinyDecoder(), tiny.BuildDecoder, tinyDecoder(), false}
	l["taesd encoder"] = Network{tinyEncoder(), tiny.BuildEncoder, tinyEncoder(), false}
}
