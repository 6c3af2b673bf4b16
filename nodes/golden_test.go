package nodes

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"image"
	"image/png"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"testing"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/diffusion"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/ort"
	"github.com/comfyrun/comfyrun/engine/ort/orttest"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/engine/weights/weightstest"
	"github.com/comfyrun/comfyrun/workflows"
)

// goldenCase is a workflow with the pictures that ComfyUI made of it.
type goldenCase struct {
	Name, Shows    string
	Models, Inputs []string
	Targets        []string            // output nodes that run, all when empty
	Images         map[string][]string // SaveImage node: pictures in order
	Tolerance      difference
	deviceChoice
}

// deviceChoice says what runs a case; the zero value is the CPU.
type deviceChoice struct {
	device string
	choose func(ctx context.Context, device string) (*ort.Choice, error)
	exact  bool // in fp32 whatever the device
}

// difference is how far pictures are apart, in grey levels: the largest and the
// mean over all pictures, and the mean of the picture where it is largest.
type difference struct{ Max, Mean, Picture float64 }

const goldenDir = "testdata/golden"

// fullSize is the case with real widths, among the slow tests.
const fullSize = "sd15-full"

// update has TestGolden write docs/parity.md.
var update = flag.Bool("update", false, "write docs/parity.md with the measured differences")

func goldenCases(t *testing.T) []goldenCase {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(goldenDir, "cases.json"))
	if err != nil {
		t.Fatal(err)
	}
	var list struct{ Cases []goldenCase }
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Cases) == 0 {
		t.Fatal("there are no cases")
	}
	return list.Cases
}

// TestGolden runs every workflow and compares the pictures with ComfyUI's.
func TestGolden(t *testing.T) {
	var rows []parityRow
	for _, c := range goldenCases(t) {
		if c.Name == fullSize && !withFullSize {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			d := runGolden(t, c)
			t.Logf("%.0f levels, mean %.5f", d.Max, d.Mean)
			rows = append(rows, parityRow{c, d})
		})
	}
	if *update && !t.Failed() {
		writeParity(t, rows)
	}
}

// runGolden returns the largest differences over the case's pictures.
func runGolden(t *testing.T, c goldenCase) difference {
	t.Helper()
	plan, r := planGolden(t, c)
	result, err := (&engine.Runner{}).Run(context.Background(), plan, engine.RunOptions{})
	if err != nil {
		t.Fatal(err)
	}
	saved := savedImages(t, result)
	var worst difference
	var sum, n float64
	for _, node := range sortedKeys(c.Images) {
		want := c.Images[node]
		if len(saved[node]) != len(want) {
			t.Fatalf("node %s saved %d pictures, want %d", node, len(saved[node]), len(want))
		}
		for i, name := range want {
			d, count := comparePNG(t, filepath.Join(r.Dirs.Output, saved[node][i]), filepath.Join(goldenDir, "expected", name))
			t.Logf("%s: %.0f levels, mean %.5f", name, d.Max, d.Mean)
			worst.Max, worst.Picture = max(worst.Max, d.Max), max(worst.Picture, d.Mean)
			sum, n = sum+d.Mean*count, n+count
		}
	}
	worst.Mean = sum / max(n, 1)
	if worst.Max > c.Tolerance.Max || worst.Mean > c.Tolerance.Mean {
		t.Errorf("%.0f levels, mean %.4f; allowed %.0f and %.4f", worst.Max, worst.Mean, c.Tolerance.Max, c.Tolerance.Mean)
	}
	return worst
}

// planGolden lays out the folders of a case and plans its workflow.
func planGolden(t *testing.T, c goldenCase) (*engine.Plan, *Runtime) {
	t.Helper()
	r := goldenRuntime(t, c)
	catalog, err := Catalog(r)
	if err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(goldenDir, c.Name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	g, err := workflows.Parse(c.reduced(t, data))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.NewPlan(g, catalog, engine.PlanOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return plan, r
}

// reduced leaves out of an API-format workflow what the case's targets do not
// need: node types that are not there yet.
func (c goldenCase) reduced(t *testing.T, workflow []byte) []byte {
	if len(c.Targets) == 0 {
		return workflow
	}
	t.Helper()
	var nodes map[string]struct {
		Class  string         `json:"class_type"`
		Inputs map[string]any `json:"inputs"`
	}
	if err := json.Unmarshal(workflow, &nodes); err != nil {
		t.Fatal(err)
	}
	needed := map[string]any{}
	for todo := slices.Clone(c.Targets); len(todo) > 0; todo = todo[1:] {
		needed[todo[0]] = nodes[todo[0]]
		for _, in := range nodes[todo[0]].Inputs {
			if link, ok := in.([]any); ok {
				todo = append(todo, link[0].(string))
			}
		}
	}
	data, err := json.Marshal(needed)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func goldenRuntime(t *testing.T, c goldenCase) *Runtime {
	t.Helper()
	dir := t.TempDir()
	folders := map[string]string{"emb": "embeddings", "vae": "vae", "controlnet": "controlnet", "esrgan": "upscale_models",
		"lora": "loras", "loha": "loras", "lokr": "loras", "dora": "loras"}
	names := c.Models
	switch c.Name {
	case "embeddings", "conditioning":
		names = append(slices.Clone(names), "emb-sd15-tiny", "emb-one-sd15-tiny")
	case "sdxl":
		names = append(slices.Clone(names), "emb-sdxl-tiny")
	}
	for _, m := range names {
		folder := folders[strings.SplitN(m, "-", 2)[0]]
		if folder == "" {
			folder = "checkpoints"
		}
		if err := os.MkdirAll(filepath.Join(dir, "models", folder), 0o777); err != nil {
			t.Fatal(err)
		}
		weightstest.Write(t, filepath.Join(dir, "models", folder), m)
	}
	return testRuntimeOn(t, dir, c.deviceChoice)
}

// testRuntime returns a Runtime over dir/models, which saves below dir and
// loads the pictures of the golden cases.
func testRuntime(t *testing.T, dir string) *Runtime {
	t.Helper()
	return testRuntimeOn(t, dir, deviceChoice{})
}

func testRuntimeOn(t *testing.T, dir string, on deviceChoice) *Runtime {
	t.Helper()
	library := orttest.Library(t)
	m := models.NewFolders([]string{filepath.Join(dir, "models")})
	o := diffusion.Options{
		Library:   func() (string, error) { return library, nil },
		Device:    on.device,
		Choose:    on.choose,
		Cache:     &weights.Cache{Dir: filepath.Join(dir, "weights")},
		Embedding: EmbeddingFinder(m),
	}
	if on.exact {
		o.Precision, o.VAEPrecision = "fp32", "fp32"
	}
	d, err := diffusion.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return &Runtime{Diffusion: d, Models: m, Dirs: Dirs{
		Input: filepath.Join(goldenDir, "input"), Output: filepath.Join(dir, "output"), Temp: filepath.Join(dir, "temp"),
	}}
}

// savedImages returns the paths that each node saved, below the output folder.
func savedImages(t *testing.T, r *engine.Result) map[string][]string {
	t.Helper()
	saved := map[string][]string{}
	for _, ui := range r.UI {
		for _, im := range ui.UI["images"] {
			f, ok := im.(SavedImage)
			if !ok {
				t.Fatalf("node %s shows a %T", ui.Node, im)
			}
			saved[ui.Node] = append(saved[ui.Node], filepath.Join(f.Subfolder, f.Filename))
		}
	}
	return saved
}

// comparePNG returns the difference of two pictures and the number of values
// compared. Alpha counts where the wanted picture has it.
func comparePNG(t *testing.T, got, want string) (difference, float64) {
	t.Helper()
	a, b := readPNG(t, got), readPNG(t, want)
	if a.Bounds().Size() != b.Bounds().Size() {
		t.Fatalf("%s is %v, want %v", filepath.Base(want), a.Bounds().Size(), b.Bounds().Size())
	}
	var d difference
	var n float64
	for y := range b.Bounds().Dy() {
		for x := range b.Bounds().Dx() {
			p, q := channels(a, x, y), channels(b, x, y)
			for i := range p {
				diff := math.Abs(p[i] - q[i])
				d.Max = max(d.Max, diff)
				d.Mean += diff
				n++
			}
		}
	}
	d.Mean /= n
	return d, n
}

// channels returns a pixel's red, green, blue and alpha, not multiplied.
func channels(im image.Image, x, y int) [4]float64 {
	b := im.Bounds()
	switch im := im.(type) {
	case *image.NRGBA:
		c := im.NRGBAAt(b.Min.X+x, b.Min.Y+y)
		return [4]float64{float64(c.R), float64(c.G), float64(c.B), float64(c.A)}
	}
	r, g, bl, al := im.At(b.Min.X+x, b.Min.Y+y).RGBA()
	return [4]float64{float64(r >> 8), float64(g >> 8), float64(bl >> 8), float64(al >> 8)}
}

func readPNG(t *testing.T, path string) image.Image {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	im, err := png.Decode(f)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", path, err))
	}
	return im
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
