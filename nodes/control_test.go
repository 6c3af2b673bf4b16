package nodes

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

func entries(n int) diffusion.Conditioning {
	c := make(diffusion.Conditioning, n)
	for i := range c {
		c[i] = diffusion.NewCond(tensor.New(1, 77, 4), nil)
	}
	return c
}

// TestControlIsShared: both sides of a node's entries have the same control,
// and after a second node still one, as long as they had the same before.
func TestControlIsShared(t *testing.T) {
	in := applyControlAdvanced{
		Positive: entries(2), Negative: entries(1), Net: &diffusion.ControlNet{}, Image: onePicture(8, 8), Strength: 0.5, Start: 0.1, End: 0.9,
	}
	one, err := applyControlNetAdvanced(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	first := one.Positive[0].Control
	if first == nil || first != one.Positive[1].Control || first != one.Negative[0].Control || first.Previous != nil {
		t.Error("the entries have different controls")
	}
	if first.Strength != 0.5 || first.Start != 0.1 || first.End != 0.9 {
		t.Errorf("control %+v", first)
	}
	in.Positive, in.Negative = one.Positive, append(one.Negative, entries(1)...)
	two, err := applyControlNetAdvanced(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	second := two.Positive[0].Control
	if second == first || second.Previous != first || second != two.Negative[0].Control {
		t.Error("the second control is not behind the first, once")
	}
	if other := two.Negative[1].Control; other == second || other.Previous != nil {
		t.Error("an entry without the first control got it")
	}
	if one.Positive[0].Control != first || in.Positive[0].Control != first {
		t.Error("the node changed its input")
	}
}

func TestOldControlNode(t *testing.T) {
	in := applyControl{Conditioning: entries(1), Net: &diffusion.ControlNet{}, Image: onePicture(8, 8), Strength: 1}
	out, err := applyControlNet(t.Context(), in)
	if err != nil {
		t.Fatal(err)
	}
	if e := out[0]; e.Control == nil || !e.ControlBoth || e.Control.End != 1 {
		t.Errorf("entry %+v, want a control for both sides and all the time", e)
	}
	in.Strength = 0
	if out, err = applyControlNet(t.Context(), in); err != nil || out[0].Control != nil {
		t.Errorf("strength 0 added a control, %v", err)
	}
}

func TestControlNodesWantANet(t *testing.T) {
	if _, err := applyControlNet(t.Context(), applyControl{}); err == nil {
		t.Error("ControlNetApply took no net")
	}
	if _, err := applyControlNetAdvanced(t.Context(), applyControlAdvanced{}); err == nil {
		t.Error("ControlNetApplyAdvanced took no net")
	}
	if _, err := setTask(t.Context(), setControlTask{}); err == nil {
		t.Error("SetUnionControlNetType took no net")
	}
}

func TestTinyVAEsAreListed(t *testing.T) {
	dir := t.TempDir()
	folder := filepath.Join(dir, "models", "vae_approx")
	if err := os.MkdirAll(folder, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"taesd_encoder.safetensors", "taesd_decoder.pth", "taesd_decoder.safetensors", "taesdxl_decoder.safetensors"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte("{}"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	r := testRuntime(t, dir)
	if got, want := r.vaeNames(), []string{"taesd"}; !slices.Equal(got, want) {
		t.Errorf("autoencoders %v, want %v: those of which both halves are there", got, want)
	}
	if got := r.tinyHalf("taesd_decoder"); got != "taesd_decoder.safetensors" {
		t.Errorf("half of taesd: %s", got)
	}
}
