package nodes

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/tensor"
	"github.com/comfyrun/comfyrun/workflows"
)

// pictureCatalog has the families that need no model.
func pictureCatalog(t *testing.T, d Dirs) *engine.Catalog {
	t.Helper()
	kinds := append(pictureKinds(d), engine.Socket[diffusion.Image]("IMAGE"), engine.Socket[diffusion.Mask]("MASK"),
		engine.Combo[cropMethod](engine.Choices("disabled", "center")))
	c := engine.NewCatalog(kinds...)
	addPictures(c, d)
	if err := c.Err(); err != nil {
		t.Fatal(err)
	}
	return c
}

func runPictures(t *testing.T, d Dirs, workflow []byte) (*engine.Result, error) {
	t.Helper()
	g, err := workflows.Parse(workflow)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.NewPlan(g, pictureCatalog(t, d), engine.PlanOptions{})
	if err != nil {
		return nil, err
	}
	return (&engine.Runner{}).Run(context.Background(), plan, engine.RunOptions{
		Extra: engine.ExtraPNGInfo{"workflow": json.RawMessage(`{"name":"größe","v":0.40}`)},
	})
}

// TestPicturesLikeComfyUI runs workflows without a model and compares every
// picture with ComfyUI's.
func TestPicturesLikeComfyUI(t *testing.T) {
	expected := filepath.Join(goldenDir, "expected")
	for _, name := range []string{"image-ops", "image-scale", "load-image", "masks"} {
		t.Run(name, func(t *testing.T) {
			d := Dirs{Input: filepath.Join(goldenDir, "input"), Output: t.TempDir(), Temp: t.TempDir()}
			data, err := os.ReadFile(filepath.Join(goldenDir, name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			result, err := runPictures(t, d, data)
			if err != nil {
				t.Fatal(err)
			}
			compared := 0
			for node, files := range savedImages(t, result) {
				for i, file := range files {
					want := filepath.Join(expected, fmt.Sprintf("%s.%s.%d.png", name, node, i))
					diff, _ := comparePNG(t, filepath.Join(d.Output, file), want)
					if diff.Max > 1 || diff.Mean > 0.002 {
						t.Errorf("%s: worst %.0f levels, mean %.4f", want, diff.Max, diff.Mean)
					}
					compared++
				}
			}
			all, err := filepath.Glob(filepath.Join(expected, name+".*.*.png"))
			if err != nil || len(all) != compared || compared == 0 {
				t.Errorf("%d pictures compared of %d, %v", compared, len(all), err)
			}
		})
	}
}

func onePicture(w, h int) diffusion.Image {
	return diffusion.Image{Tensor: tensor.Full(0.5, 1, h, w, 3)}
}

// TestSaveNames saves into a folder that holds files of other numbers, as
// ComfyUI was asked to.
// TestSaveCounts checks that the remembered number gives way to what happens in the folder.
func TestSaveCounts(t *testing.T) {
	dir := t.TempDir()
	s := &saver{dirs: Dirs{Output: dir}}
	save := func() string {
		t.Helper()
		ui, err := s.save(t.Context(), saveImage{Images: onePicture(2, 2), Prefix: "p"})
		if err != nil {
			t.Fatal(err)
		}
		return ui["images"][0].(SavedImage).Filename
	}
	touch := func(name string) {
		t.Helper()
		time.Sleep(20 * time.Millisecond) // the clock of file systems is coarse
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"p_00001_.png", "p_00002_.png"} {
		if name := save(); name != want {
			t.Errorf("saved %s, want %s", name, want)
		}
	}
	touch("p_00007_.webp")
	if name := save(); name != "p_00008_.png" {
		t.Errorf("after number 7 of somebody else: %s", name)
	}
	for _, n := range []string{"p_00007_.webp", "p_00008_.png"} {
		time.Sleep(20 * time.Millisecond)
		if err := os.Remove(filepath.Join(dir, n)); err != nil {
			t.Fatal(err)
		}
	}
	if name := save(); name != "p_00003_.png" {
		t.Errorf("after the highest ones were removed: %s", name)
	}
}

func TestSaveNames(t *testing.T) {
	year := time.Now().Format("2006")
	tests := []struct{ prefix, want, subfolder string }{
		{"ComfyUI", "ComfyUI_00008_.png", ""},
		{"a/b/c", "c_00001_.png", "a/b"},
		{"%width%x%height%_%year%", "20x10_" + year + "_00001_.png", ""},
		{"", "._00001_.png", ""},
		{"sub/", "sub_00001_.png", ""},
		{"x%batch_num%", "x0_00001_.png", ""},
		{"%date:yyyy%", "%date:yyyy%_00001_.png", ""},
		{`a\b`, `a\b_00001_.png`, ""},
		{"in/%KSampler.seed%_%width%", "%KSampler.seed%_20_00001_.png", "in"},
		{"ComfyUIx", "ComfyUIx_00051_.png", ""},
	}
	for _, test := range tests {
		dir := t.TempDir()
		for _, name := range []string{
			"ComfyUI_00001_.png", "ComfyUI_00007_.webp", "ComfyUIx_00050_.png", "ComfyUI_12.png", "comfyui_00090_.png",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o666); err != nil {
				t.Fatal(err)
			}
		}
		s := &saver{dirs: Dirs{Output: dir}}
		ui, err := s.save(context.Background(), saveImage{Images: onePicture(20, 10), Prefix: test.prefix})
		if err != nil {
			t.Errorf("%q: %v", test.prefix, err)
			continue
		}
		want := engine.UI{"images": {SavedImage{test.want, test.subfolder, "output"}}}
		if diff := cmp.Diff(want, ui); diff != "" {
			t.Errorf("%q: -want +got:\n%s", test.prefix, diff)
		}
		if _, err := os.Stat(filepath.Join(dir, test.subfolder, test.want)); err != nil {
			t.Errorf("%q: %v", test.prefix, err)
		}
	}
}

func TestSaveStaysInside(t *testing.T) {
	for _, prefix := range []string{"../x", "/etc/x", "a/../../x", "/"} {
		dir := t.TempDir()
		s := &saver{dirs: Dirs{Output: dir}}
		_, err := s.save(context.Background(), saveImage{Images: onePicture(2, 2), Prefix: prefix})
		if err == nil || !strings.Contains(err.Error(), "outside of the folder") {
			t.Errorf("%q: error %v", prefix, err)
		}
	}
}

func TestSaveBatchNumbers(t *testing.T) {
	dir := t.TempDir()
	s := &saver{dirs: Dirs{Output: dir}}
	batch := diffusion.Image{Tensor: tensor.New(2, 2, 2, 3)}
	for range 2 { // the second time overwrites
		ui, err := s.save(context.Background(), saveImage{Images: batch, Prefix: "b%batch_num%"})
		if err != nil {
			t.Fatal(err)
		}
		want := engine.UI{"images": {SavedImage{"b0_00001_.png", "", "output"}, SavedImage{"b1_00002_.png", "", "output"}}}
		if diff := cmp.Diff(want, ui); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// TestSaveAtOnce saves from many places into one folder: no name is given
// twice, even between programs, and nothing else stays behind.
func TestSaveAtOnce(t *testing.T) {
	dir := t.TempDir()
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			s := &saver{dirs: Dirs{Output: dir}} // its own lock, like another program
			for range 5 {
				if _, err := s.save(context.Background(), saveImage{Images: onePicture(2, 2), Prefix: "n"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 20 || entries[19].Name() != "n_00020_.png" {
		t.Errorf("%d files, %v", len(entries), err)
	}
}

func TestSaveLeavesNothingWhenItFails(t *testing.T) {
	dir := t.TempDir()
	s := &saver{dirs: Dirs{Output: dir}}
	bad := diffusion.Image{Tensor: tensor.New(1, 2, 2, 1)}
	if _, err := s.save(context.Background(), saveImage{Images: bad, Prefix: "x"}); err == nil {
		t.Error("a picture of one channel is saved")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := s.save(ctx, saveImage{Images: onePicture(2, 2), Prefix: "x"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if entries, _ := os.ReadDir(dir); len(entries) != 0 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestPreviewGoesToTemp(t *testing.T) {
	d := Dirs{Output: t.TempDir(), Temp: t.TempDir()}
	result, err := runPictures(t, d, []byte(`{"1":{"class_type":"EmptyImage","inputs":{"width":4,"height":4,"batch_size":1,"color":255}},
		"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	saved := result.UI[0].UI["images"][0].(SavedImage)
	if saved.Type != "temp" || !strings.HasPrefix(saved.Filename, "ComfyUI_temp_") || len(saved.Filename) != len("ComfyUI_temp_abcde_00001_.png") {
		t.Errorf("saved %+v", saved)
	}
	if _, err := os.Stat(filepath.Join(d.Temp, saved.Filename)); err != nil {
		t.Error(err)
	}
}

func TestSavedMetadata(t *testing.T) {
	d := Dirs{Output: t.TempDir()}
	_, err := runPictures(t, d, []byte(`{"7":{"inputs":{"width":4,"height":4,"batch_size":1,"color":255},"class_type":"EmptyImage"},
		"2":{"inputs":{"filename_prefix":"猫","images":["7",0]},"class_type":"SaveImage","_meta":{"title":"é"}}}`))
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(d.Output, "猫_00001_.png"))
	if err != nil {
		t.Fatal(err)
	}
	texts, err := imagefile.ReadText(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	want := []imagefile.Text{
		{Key: "prompt", Value: `{"7": {"inputs": {"width": 4, "height": 4, "batch_size": 1, "color": 255}, "class_type": "EmptyImage"}, ` +
			`"2": {"inputs": {"filename_prefix": "\u732b", "images": ["7", 0]}, "class_type": "SaveImage", "_meta": {"title": "\u00e9"}}}`},
		{Key: "workflow", Value: `{"name": "gr\u00f6\u00dfe", "v": 0.4}`},
	}
	if diff := cmp.Diff(want, texts); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestPythonJSON has what Python 3's json.dumps(json.loads(x)) gives.
func TestPythonJSON(t *testing.T) {
	for in, want := range map[string]string{
		`{"b":[1,2.50,-0.0],"a":null,"c":{}}`:        `{"b": [1, 2.5, -0.0], "a": null, "c": {}}`,
		`[1e3,1e16,1.5e-5,0.0001,1e22,123456789012]`: `[1000.0, 1e+16, 1.5e-05, 0.0001, 1e+22, 123456789012]`,
		`"é\u0000\u007f\"\\/\t😀"`:                    `"\u00e9\u0000\u007f\"\\/\t\ud83d\ude00"`,
		`18446744073709551615`:                       `18446744073709551615`,
		`[1e999,-1e999,true,false,[]]`:               `[Infinity, -Infinity, true, false, []]`,
		`9007199254740993.0`:                         `9007199254740992.0`,
	} {
		got, err := pythonJSON([]byte(in))
		if err != nil || got != want {
			t.Errorf("%s: got %s, want %s (%v)", in, got, want, err)
		}
	}
	for _, in := range []string{"", "{", `{"a":1}}`, "1 2", "NaN"} {
		if got, err := pythonJSON([]byte(in)); err == nil {
			t.Errorf("%q gives %s", in, got)
		}
	}
}

func FuzzPythonJSON(f *testing.F) {
	f.Add([]byte(`{"a":[1,2.5e-7,"é"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := pythonJSON(data)
		if err == nil && !strings.Contains(s, "Infinity") && !json.Valid([]byte(s)) {
			t.Fatalf("%q gives %q", data, s)
		}
	})
}

func TestLoadImageRefuses(t *testing.T) {
	dir := t.TempDir()
	d := Dirs{Input: filepath.Join(dir, "input"), Output: filepath.Join(dir, "output"), Temp: filepath.Join(dir, "temp")}
	for _, sub := range []string{d.Input, filepath.Join(d.Input, "sub"), d.Output} {
		if err := os.MkdirAll(sub, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	s := &saver{dirs: d}
	if _, err := s.save(context.Background(), saveImage{Images: onePicture(2, 2), Prefix: "p"}); err != nil {
		t.Fatal(err)
	}
	picture, err := os.ReadFile(filepath.Join(d.Output, "p_00001_.png"))
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"ok.png": picture, "sub/in.png": picture, "bad.png": []byte("text"), "notes.txt": nil} {
		if err := os.WriteFile(filepath.Join(d.Input, name), data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff([]string{"bad.png", "ok.png"}, picturesIn(d.Input)); diff != "" {
		t.Errorf("choices: -want +got:\n%s", diff)
	}
	tests := []struct{ name, want string }{
		{"ok.png", ""}, {"sub/in.png", ""}, {"p_00001_.png [output]", ""}, {"ok.png [input]", ""},
		{"nope.png", "Invalid image file: nope.png"}, {"p_00001_.png", "Invalid image file"},
		{"../output/p_00001_.png", "Invalid image file"}, {"ok.png [temp]", "Invalid image file"},
		{"bad.png", "not a PNG"},
	}
	for _, test := range tests {
		workflow := fmt.Sprintf(`{"1":{"class_type":"LoadImage","inputs":{"image":%q}},
			"2":{"class_type":"PreviewImage","inputs":{"images":["1",0]}}}`, test.name)
		_, err := runPictures(t, d, []byte(workflow))
		if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %q", test.name, err, test.want)
		}
		var fault *engine.NodeError
		if strings.HasPrefix(test.want, "Invalid") && (!errors.As(err, &fault) || fault.Kind != engine.CustomFailed) {
			t.Errorf("%s: %T %v is not a failed validation", test.name, err, err)
		}
	}
}

func TestFingerprintFollowsContent(t *testing.T) {
	d := Dirs{Input: t.TempDir()}
	path := filepath.Join(d.Input, "x.png")
	var prints []string
	for _, content := range []string{"a", "b", "a"} {
		if err := os.WriteFile(path, []byte(content), 0o666); err != nil {
			t.Fatal(err)
		}
		s, err := d.fingerprint("x.png")
		if err != nil {
			t.Fatal(err)
		}
		prints = append(prints, s)
	}
	if prints[0] == prints[1] || prints[0] != prints[2] || len(prints[0]) != 64 {
		t.Errorf("fingerprints %v", prints)
	}
	if _, err := d.fingerprint("gone.png"); err == nil {
		t.Error("a file that is not there has a fingerprint")
	}
}

func TestPrimitivesAndStrings(t *testing.T) {
	d := Dirs{Output: t.TempDir()}
	_, err := runPictures(t, d, []byte(`{"1":{"class_type":"PrimitiveInt","inputs":{"value":6}},
		"2":{"class_type":"PrimitiveString","inputs":{"value":"a"}},
		"3":{"class_type":"StringConcatenate","inputs":{"string_a":["2",0],"string_b":"b","delimiter":"-"}},
		"4":{"class_type":"StringReplace","inputs":{"string":["3",0],"find":"-","replace":"+"}},
		"5":{"class_type":"EmptyImage","inputs":{"width":["1",0],"height":2,"batch_size":5,"color":0}},
		"6":{"class_type":"RebatchImages","inputs":{"images":["5",0],"batch_size":2}},
		"7":{"class_type":"SaveImage","inputs":{"filename_prefix":["4",0],"images":["6",0]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob(filepath.Join(d.Output, "a+b_0000?_.png"))
	if len(files) != 5 {
		t.Errorf("files %v", files)
	}
}
