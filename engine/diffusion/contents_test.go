package diffusion

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
)

func writeContents(t *testing.T, list []weights.Content) string {
	t.Helper()
	var b bytes.Buffer
	if err := weights.Write(&b, nil, list); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "saved.safetensors")
	if err := os.WriteFile(path, b.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

func openFile(t *testing.T, path string) *weights.File {
	t.Helper()
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// equalTensor compares a tensor of two files: type, shape and all values.
func equalTensor(t *testing.T, name string, a, b *weights.File) {
	t.Helper()
	x, okX := a.Tensor(name)
	y, okY := b.Tensor(name)
	if !okX || !okY || x.DType != y.DType || !x.Shape.Equal(y.Shape) {
		t.Errorf("%s: %s %v and %s %v", name, x.DType, x.Shape, y.DType, y.Shape)
		return
	}
	p, err := a.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	q, err := b.Read(name)
	if err != nil || !slices.Equal(p.Data, q.Data) {
		t.Errorf("%s has other values, %v", name, err)
	}
}

// TestContentsOfCheckpoints writes checkpoints as they were read: nothing is
// new, and what is left out has no meaning.
func TestContentsOfCheckpoints(t *testing.T) {
	for _, list := range []string{"sd15-tiny-fp16", "sd21-tiny-fp16", "sdxl-tiny-fp16", "sdxl-refiner-tiny-fp16", "sdxl-vpred-ztsnr-tiny-fp16"} {
		t.Run(list, func(t *testing.T) {
			r := testRuntime(t, &weights.Cache{})
			path := weightstest.Write(t, t.TempDir(), list)
			model, clip, vae, err := r.LoadCheckpoint(t.Context(), path)
			if err != nil {
				t.Fatal(err)
			}
			own, err := vae.Contents()
			if err != nil {
				t.Fatal(err)
			}
			all := append(model.Contents(), InCheckpoint(own)...)
			for _, tower := range clip.Contents() {
				all = append(all, tower.Embedded...)
			}
			before, after := openFile(t, path), openFile(t, writeContents(t, all))
			for _, name := range after.Names() {
				equalTensor(t, name, before, after)
			}
			for _, name := range before.Names() {
				if _, ok := after.Tensor(name); !ok && !meaningless(name) {
					t.Errorf("%s was not written", name)
				}
			}
		})
	}
}

// meaningless tells tensors of checkpoints that no model is made of.
func meaningless(name string) bool {
	return slices.ContainsFunc([]string{"position_ids", "logit_scale", "alphas_cumprod", "betas", "model_ema."}, func(part string) bool {
		return strings.Contains(name, part)
	})
}

// TestContentsOfTower writes a text encoder into a file of its own, with a LoRA
// applied, and encodes a prompt with it as before but for the rounding of the
// changed weights to half precision.
func TestContentsOfTower(t *testing.T) {
	r, _, clip := patchRuntime(t, "sd15-tiny-fp16")
	clip, err := clip.WithLoRA(openLoRA(t, r, "lora-kohya-sd15-tiny"), 0.5)
	if err != nil {
		t.Fatal(err)
	}
	towers := clip.Contents()
	if len(towers) != 1 || towers[0].Name != "clip_l" {
		t.Fatalf("%d towers, the first is %s", len(towers), towers[0].Name)
	}
	saved, err := r.LoadCLIP(t.Context(), writeContents(t, towers[0].Own))
	if err != nil {
		t.Fatal(err)
	}
	want, err := clip.Encode(t.Context(), "a (red:1.2) fox")
	if err != nil {
		t.Fatal(err)
	}
	got, err := saved.Encode(t.Context(), "a (red:1.2) fox")
	if err != nil {
		t.Fatal(err)
	}
	var worst float64
	for i, v := range got[0].Text.Data {
		worst = max(worst, math.Abs(float64(v-want[0].Text.Data[i])))
	}
	t.Logf("worst difference %.2g", worst)
	if worst > 2e-3 {
		t.Errorf("the states are up to %g apart", worst)
	}
}

// TestContentsOfChangedModel writes a merge: the weights are the mean of two.
func TestContentsOfChangedModel(t *testing.T) {
	r, m, _ := patchRuntime(t, "sd15-tiny-fp16")
	other, _, _, err := r.LoadCheckpoint(t.Context(), weightstest.Write(t, t.TempDir(), "sd15-tiny-bf16"))
	if err != nil {
		t.Fatal(err)
	}
	merged, err := m.Merge(other, func(string) Mix { return Mix{Keep: 0.5, Add: 0.5} })
	if err != nil {
		t.Fatal(err)
	}
	saved := openFile(t, writeContents(t, merged.Contents()))
	const name = modelPlace + "out.2.weight"
	a, err := m.unet.file.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := other.unet.file.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	got, err := saved.Read(name)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range got.Data {
		if want := tensor.F16ToF32(tensor.F32ToF16(a.Data[i]*0.5 + b.Data[i]*0.5)); v != want {
			t.Fatalf("element %d: %g, want %g", i, v, want)
		}
	}
}
