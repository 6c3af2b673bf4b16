package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// golden reads ComfyUI's own object_info, an entry's exact text by class.
func golden(t *testing.T) map[string]json.RawMessage {
	t.Helper()
	data, err := os.ReadFile("testdata/object_info.json")
	if err != nil {
		t.Fatal(err)
	}
	var out map[string]json.RawMessage
	if err := json.Unmarshal(data, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func goldenChoices(t *testing.T, entry json.RawMessage, input string) func() []string {
	var info struct {
		Input struct{ Required map[string][]json.RawMessage }
	}
	var out []string
	if err := json.Unmarshal(entry, &info); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(info.Input.Required[input][0], &out); err != nil {
		t.Fatal(err)
	}
	return Choices(out...)
}

func nothing[I, O any](context.Context, I) (out O, err error) { return out, nil }

func goldenCatalog(t *testing.T, want map[string]json.RawMessage) *Catalog {
	type imageFile string
	c := NewCatalog(
		Socket[*fakeModel]("MODEL"), Socket[*fakeClip]("CLIP"), Socket[*fakeVAE]("VAE"), Socket[fakeImage]("IMAGE"),
		Socket[fakeCond]("CONDITIONING"), Socket[fakeLatent]("LATENT"), Socket[*fakeImage]("MASK"),
		Combo[samplerName](goldenChoices(t, want["KSampler"], "sampler_name")),
		Combo[scheduler](goldenChoices(t, want["KSampler"], "scheduler")),
		Combo[checkpoint](Choices()), Combo[imageFile](func() []string { return nil }),
	)
	type clipTextEncode struct {
		Text string    `in:"text" ui:"multiline,dynamicPrompts"`
		Clip *fakeClip `in:"clip"`
	}
	type emptyLatent struct {
		Width  int `in:"width" range:"16,16384,8"`
		Height int `in:"height" range:"16,16384,8"`
		Batch  int `in:"batch_size" range:"1,4096"`
	}
	type loader struct {
		Name checkpoint `in:"ckpt_name"`
	}
	type loaded struct {
		Model *fakeModel `out:"MODEL"`
		Clip  *fakeClip  `out:"CLIP"`
		VAE   *fakeVAE   `out:""`
	}
	type saveImage struct {
		Images fakeImage `in:"images"`
		Prefix string    `in:"filename_prefix"`
		Prompt Prompt
		Extra  ExtraPNGInfo
	}
	type loadImage struct {
		Image imageFile `in:"image" ui:"image_upload"`
	}
	type imageAndMask struct {
		Image fakeImage  `out:"IMAGE"`
		Mask  *fakeImage `out:"MASK"`
	}
	type rebatch struct {
		Images List[fakeImage] `in:"images"`
		Size   int             `in:"batch_size" range:"1,4096"`
	}
	type primitive struct {
		Value int64 `in:"value" range:"-9223372036854775807,9223372036854775807" ui:"nodefault,control_after_generate"`
	}
	type previewAny struct {
		Source any `in:"source"`
	}
	Add(c, "KSampler", "sampling", kSampler{Steps: 20, CFG: 8, Denoise: 1}, nothing[kSampler, fakeLatent])
	Add(c, "CLIPTextEncode", "conditioning", clipTextEncode{}, nothing[clipTextEncode, fakeCond]).Title("CLIP Text Encode (Prompt)")
	Add(c, "EmptyLatentImage", "latent", emptyLatent{512, 512, 1}, nothing[emptyLatent, fakeLatent]).Title("Empty Latent Image")
	Add(c, "CheckpointLoaderSimple", "loaders", loader{}, nothing[loader, loaded]).Title("Load Checkpoint")
	Add(c, "SaveImage", "image", saveImage{Prefix: "ComfyUI"}, nothing[saveImage, UI]).Title("Save Image").Output()
	Add(c, "LoadImage", "image", loadImage{}, nothing[loadImage, imageAndMask]).Title("Load Image")
	Add(c, "RebatchImages", "image/batch", rebatch{Size: 1}, nothing[rebatch, List[fakeImage]]).
		Title("Rebatch Images").Module("comfy_extras.nodes_rebatch").V3()
	Add(c, "PrimitiveInt", "utils/primitive", primitive{}, nothing[primitive, int64]).
		Title("Int").Module("comfy_extras.nodes_primitive").V3()
	Add(c, "PreviewAny", "utils", previewAny{}, nothing[previewAny, UI]).
		Title("Preview Any").Module("comfy_extras.nodes_preview_any").Output()
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestObjectInfo compares the exact text, so that the order of keys counts.
func TestObjectInfo(t *testing.T) {
	want := golden(t)
	c := goldenCatalog(t, want)
	for _, typ := range c.Types() {
		var got, exp bytes.Buffer
		raw, err := typ.Info().MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&got, raw); err != nil {
			t.Fatal(err)
		}
		if err := json.Compact(&exp, want[typ.Class]); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(exp.String(), got.String()); diff != "" {
			t.Errorf("%s:\n%s", typ.Class, diff)
		}
	}
	if n := len(ObjectInfo(c)); n != len(want) {
		t.Errorf("%d entries, want %d", n, len(want))
	}
}
