package golden

import (
	"bytes"
	"encoding/xml"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// tree writes files below a new folder, which it makes the working folder.
func tree(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestFind(t *testing.T) {
	tree(t, map[string]string{
		"w/a.json": "", "w/a.golden.png": "", "w/a.9.golden.png": "", "w/a.9.2.golden.sha256": "", "w/a.test.toml": "",
		"w/a.b.json": "", "w/a.b.golden.png": "", "w/a.b.3.golden.png": "",
		"w/deep/c.json": "", "w/.git/d.json": "", "w/x.receipt.json": "", "w/note.txt": "",
		"w/gone.golden.png": "", "w/lost.test.toml": "",
	})
	a := Test{Name: "w/a", Workflow: "w/a.json", Sidecar: "w/a.test.toml", Goldens: []File{
		{"w/a.9.2.golden.sha256", "9.2"}, {"w/a.9.golden.png", "9"}, {"w/a.golden.png", ""},
	}}
	b := Test{Name: "w/a.b", Workflow: "w/a.b.json", Goldens: []File{{"w/a.b.3.golden.png", "3"}, {"w/a.b.golden.png", ""}}}
	c := Test{Name: "w/deep/c", Workflow: "w/deep/c.json"}
	gone := Test{Name: "w/gone", Goldens: []File{{"w/gone.golden.png", ""}}}
	lost := Test{Name: "w/lost", Sidecar: "w/lost.test.toml"}
	for _, tt := range []struct {
		paths []string
		want  []Test
	}{
		{[]string{"w"}, []Test{a, b, c, gone, lost}},
		{[]string{"w/deep", "w", "w/a.json"}, []Test{a, b, c, gone, lost}},
		{[]string{"w/a.b.json"}, []Test{b}},
	} {
		got, err := Find(tt.paths...)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%v: %v\n%s", tt.paths, err, diff)
		}
	}
	for _, wrong := range []string{"absent", "w/note.txt"} {
		if _, err := Find(wrong); err == nil {
			t.Errorf("%s was found", wrong)
		}
	}
}

func TestParseOptions(t *testing.T) {
	got, err := ParseOptions([]byte("max = 3\nssim = 0.99\nphash = 0\nnodes = [\"9\"]\n[set]\nKSampler.seed = 7\n\"Prompt.text\" = \"a \\\"boat\\\"\"\n\"3.cfg\" = 4.5\nx.on = true\n"))
	want := Options{
		Limits: compare.Limits{Max: 3, Mean: 0.1, SSIM: 0.99, PHash: 0}, Nodes: []string{"9"},
		Set: []Setting{{"3.cfg", "4.5"}, {"KSampler.seed", "7"}, {"Prompt.text", `a "boat"`}, {"x.on", "true"}},
	}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
	for text, message := range map[string]string{
		"maximum = 1":      "line 1, column 1: unknown key maximum",
		"\nmax = \"a\"":    "line 2, column 7",
		"max = 300":        "max is 300",
		"mean = nan":       "mean is NaN",
		"[set]\nA.b = [1]": `set "A.b"`,
	} {
		if _, err := ParseOptions([]byte(text)); err == nil || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v, want %q", text, err, message)
		}
	}
}

func FuzzParseOptions(f *testing.F) {
	f.Add([]byte("max = 3\nmean = 1e-3\n[set]\nA.b.c = 1979-05-27\n"))
	f.Add([]byte("set = 3"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := ParseOptions(data); err == nil && o.Limits.Check() != nil {
			t.Errorf("limits %+v", o.Limits)
		}
	})
}

func FuzzGolden(f *testing.F) {
	f.Add([]byte(strings.Repeat("0a", 32) + "  8x8  devel onnxruntime-1.30.0\n"))
	f.Add(picture(f, 5))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, file := range []File{{Path: "a" + PictureEnding}, {Path: "a" + DigestEnding}} {
			if c, err := file.parse(data); err == nil && len(c.Digest) != 64 {
				t.Errorf("digest %q", c.Digest)
			}
		}
	})
}

// picture is a PNG file of 16 by 12 pixels in one colour, with a receipt as exec writes it.
func picture(t testing.TB, level byte) []byte {
	t.Helper()
	var b bytes.Buffer
	p := imagefile.Picture{Width: 16, Height: 12, RGB: slices.Repeat([]byte{level, level / 2, 90}, 16*12)}
	receipt := imagefile.Text{Key: "receipt", Value: `{"receipt":1,"engine":{"comfyrun":"1.2.3","onnxruntime":"1.30.0","device":"cpu"}}`}
	if err := imagefile.WritePNG(&b, p, imagefile.PNGOptions{Text: []imagefile.Text{receipt}}); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// problems are what Check says of each picture, by key.
func problems(r Result) map[string]string {
	out := map[string]string{}
	for _, p := range r.Pictures {
		out[p.Key] = p.Problem
	}
	return out
}

func find(t *testing.T) Test {
	t.Helper()
	tests, err := Find(".")
	if err != nil || len(tests) != 1 {
		t.Fatalf("%d tests, %v", len(tests), err)
	}
	return tests[0]
}

func TestCheck(t *testing.T) {
	same, near, far := string(picture(t, 100)), picture(t, 101), picture(t, 120)
	digest, _, _ := strings.Cut(string(DigestText(imagefile.Picture{Width: 16, Height: 12, RGB: slices.Repeat([]byte{100, 50, 90}, 16*12)}, "")), " ")
	limits := compare.Default()
	limits.Mean = 1
	for name, tt := range map[string]struct {
		goldens map[string]string
		nodes   []string
		outputs []Output
		status  string
		want    map[string]string
	}{
		"none":      {nil, nil, []Output{{"9", near}}, NoGolden, map[string]string{"": "has no golden"}},
		"same":      {map[string]string{"": same}, nil, []Output{{"9", []byte(same)}}, Passed, map[string]string{"": ""}},
		"near":      {map[string]string{"": same}, nil, []Output{{"9", near}}, Passed, map[string]string{"": ""}},
		"far":       {map[string]string{"": same}, nil, []Output{{"9", far}}, Failed, map[string]string{"": "max 20 (limit 1), mean 10 (limit 1)"}},
		"two":       {map[string]string{"": same, ".2": same}, nil, []Output{{"9", near}, {"9", far}}, Failed, map[string]string{"": "", "2": "max 20 (limit 1), mean 10 (limit 1)"}},
		"two nodes": {map[string]string{".9": same, ".5-1": same}, nil, []Output{{"5:1", near}, {"9", near}}, Passed, map[string]string{"5-1": "", "9": ""}},
		"one more":  {map[string]string{".9": same}, nil, []Output{{"5", near}, {"9", near}}, Failed, map[string]string{"5": "has no golden", "9": ""}},
		"chosen":    {map[string]string{"": same}, []string{"9"}, []Output{{"5", far}, {"9", near}}, Passed, map[string]string{"": ""}},
		"one less":  {map[string]string{"": same, ".2": same}, nil, []Output{{"9", near}}, Failed, map[string]string{"": "", "2": "the run gave no picture for this golden"}},
		"no output": {map[string]string{"": same}, nil, nil, Failed, map[string]string{"": "the run gave no picture for this golden"}},
		"text":      {map[string]string{"": same}, nil, []Output{{"9", []byte("hello")}}, Failed, map[string]string{"": "is no picture that can be compared"}},
		"digest":    {map[string]string{"|": digest + "  16x12\n"}, nil, []Output{{"9", []byte(same)}}, Passed, map[string]string{"": ""}},
		"other sum": {map[string]string{"|": digest}, nil, []Output{{"9", near}}, Failed, map[string]string{"": "the pixels have another digest"}},
		"torn sum":  {map[string]string{"|": digest[:60]}, nil, []Output{{"9", near}}, Failed, map[string]string{"": "read golden a.golden.sha256: not of the form SHA256 WIDTHxHEIGHT VERSIONS, on one line"}},
	} {
		t.Run(name, func(t *testing.T) {
			files := map[string]string{"a.json": ""}
			for key, text := range tt.goldens {
				if key == "|" {
					files["a"+DigestEnding] = text
				} else {
					files["a"+key+PictureEnding] = text
				}
			}
			tree(t, files)
			r := find(t).Check(Options{Limits: limits, Nodes: tt.nodes}, tt.outputs)
			if diff := cmp.Diff(tt.want, problems(r)); r.Status != tt.status || diff != "" {
				t.Errorf("%s, want %s\n%s", r.Status, tt.status, diff)
			}
		})
	}
}

func TestCheckSizes(t *testing.T) {
	small, err := encode(imagefile.Picture{Width: 2, Height: 1, RGB: make([]byte, 6)})
	if err != nil {
		t.Fatal(err)
	}
	tree(t, map[string]string{"a.json": "", "a.golden.png": string(small)})
	r := find(t).Check(Options{Limits: compare.Default()}, []Output{{"9", picture(t, 1)}})
	if r.Status != Failed || r.Pictures[0].Problem != "is 16x12, the golden 2x1" || r.Pictures[0].Compared {
		t.Errorf("%+v", r.Pictures[0])
	}
}

// What Updates writes makes the next check pass, and then there is nothing to write.
func TestUpdates(t *testing.T) {
	for _, digests := range []bool{false, true} {
		tree(t, map[string]string{"a.json": "", "a.9.golden.png": string(picture(t, 3))})
		outputs := []Output{{"9", picture(t, 100)}, {"12", picture(t, 200)}, {"12", []byte("text")}}
		writes, err := find(t).Check(Options{}, outputs).Updates(digests, "1.2.3 onnxruntime-1.30.0")
		if err != nil || len(writes) != 2 {
			t.Fatalf("%d files, %v", len(writes), err)
		}
		for _, w := range writes {
			if err := os.WriteFile(w.Path, w.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		test := find(t)
		second, _ := test.Golden("12")
		if second.IsDigest() != digests || len(test.Goldens) != 2 {
			t.Errorf("goldens %v", test.Goldens)
		}
		for _, f := range test.Goldens {
			if got := f.Engine(); got != "1.2.3 onnxruntime-1.30.0" {
				t.Errorf("%s was made by %q", f.Path, got)
			}
		}
		r := test.Check(Options{}, outputs[:2])
		if again, err := r.Updates(digests, ""); r.Status != Passed || err != nil || len(again) > 0 {
			t.Errorf("%s, %d files, %v", r.Text(), len(again), err)
		}
	}
}

func TestApart(t *testing.T) {
	small, err := encode(imagefile.Picture{Width: 2, Height: 1, RGB: make([]byte, 6)})
	if err != nil {
		t.Fatal(err)
	}
	of := func(files ...[]byte) (out []Output) {
		for i, data := range files {
			out = append(out, Output{string(rune('1' + i)), data})
		}
		return out
	}
	for _, tt := range []struct {
		before, after []Output
		want          string
	}{
		{of(picture(t, 9)), of(picture(t, 9)), ""},
		{of(picture(t, 9)), of(picture(t, 29)), "max 20, mean 10, ssim 0.8564, phash 0"},
		{of(picture(t, 9), picture(t, 8)), of(picture(t, 9), picture(t, 88)), "2: max 80, mean 40, ssim 0.4554, phash 0"},
		{of(picture(t, 9)), of(small), "2x1 in place of 16x12"},
		{of(picture(t, 9)), nil, "0 pictures in place of 1"},
		{nil, nil, ""},
	} {
		if got, err := Apart(tt.before, tt.after, compare.Default()); err != nil || got != tt.want {
			t.Errorf("%q, %v, want %q", got, err, tt.want)
		}
	}
	if _, err := Apart(of([]byte("x")), of(small), compare.Default()); err == nil {
		t.Error("a text was compared")
	}
}

// report is one of everything.
func report(t *testing.T) Report {
	t.Helper()
	tree(t, map[string]string{"a.json": "", "a.golden.png": string(picture(t, 100))})
	test := find(t)
	options := Options{Limits: compare.Default()}
	failed := test.Check(options, []Output{{"9", picture(t, 120)}})
	passed := test.Check(options, []Output{{"9", picture(t, 100)}})
	broken := Result{Test: Test{Name: "b", Workflow: "b.json"}, Status: Broken, Err: errors.New("node 3 <KSampler> | \"lost\"")}
	bare := Result{Test: Test{Name: "c", Workflow: "c.json"}, Status: NoGolden}
	orphan := Result{Test: Test{Name: "d", Goldens: []File{{"d.golden.png", ""}}}, Status: Orphan, Detail: "there is no d.json"}
	unmoved := Result{Test: Test{Name: "e", Workflow: "e.json"}, Status: Unmoved}
	r := Report{Results: []Result{passed, failed, broken, bare, orphan, unmoved}, Engine: "1.2.3", Seconds: 1.5}
	for i := range r.Results {
		files, err := r.Results[i].Draw(i + 1)
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]int{Failed: 3}[r.Results[i].Status]; len(files) != want {
			t.Errorf("%s: %d files, want %d", r.Results[i].Status, len(files), want)
		}
		if i == 1 && (files[1].Path != "pictures/002-a.before.png" || !bytes.HasPrefix(files[1].Data, []byte("\x89PNG"))) {
			t.Errorf("file %s", files[1].Path)
		}
	}
	return r
}

func TestJUnit(t *testing.T) {
	text, err := report(t).JUnit()
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Tests    int `xml:"tests,attr"`
		Failures int `xml:"failures,attr"`
		Errors   int `xml:"errors,attr"`
		Skipped  int `xml:"skipped,attr"`
		Suite    struct {
			Cases []struct {
				Name    string `xml:"name,attr"`
				Failure *struct {
					Message string `xml:"message,attr"`
				} `xml:"failure"`
				Error *struct {
					Message string `xml:"message,attr"`
				} `xml:"error"`
				Skipped *struct {
					Message string `xml:"message,attr"`
				} `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	cases := got.Suite.Cases
	if got.Tests != 6 || got.Failures != 2 || got.Errors != 1 || got.Skipped != 2 || len(cases) != 6 {
		t.Fatalf("%+v", got)
	}
	if cases[0].Failure != nil || !strings.Contains(cases[1].Failure.Message, "max 20 (limit 1)") ||
		cases[2].Error.Message != "node 3 <KSampler> | \"lost\"" || cases[3].Skipped.Message != "no golden" ||
		cases[4].Failure.Message != "there is no d.json" || cases[5].Skipped == nil {
		t.Errorf("%s", text)
	}
}

// The page needs nothing but itself, and texts do not become markup.
func TestHTML(t *testing.T) {
	page, err := report(t).HTML()
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, m := range regexp.MustCompile(`(?:src|href)="([^"]*)"`).FindAllStringSubmatch(text, -1) {
		if !strings.HasPrefix(m[1], "data:image/png;base64,iVBOR") {
			t.Errorf("the page needs %.40s", m[1])
		}
	}
	if n := strings.Count(text, "<img "); n != 4 { // before, after and difference of one, after of the other
		t.Errorf("%d pictures", n)
	}
	if !strings.Contains(text, "node 3 &lt;KSampler&gt;") || !strings.Contains(text, "difference ×12") || !strings.Contains(text, "1 passed, 1 failed, 1 error") {
		t.Error(text)
	}
	if strings.Index(text, "max 20") > strings.Index(text, "identical") {
		t.Error("what passed stands before what failed")
	}
}

func TestMarkdown(t *testing.T) {
	got := string(report(t).Markdown())
	want := `# comfyrun test: 1 passed, 1 failed, 1 error, 1 untouched, 1 no golden, 1 orphan

1.2.3, 1.5 s

| test | result | before | after | difference |
|---|---|---|---|---|
| a | **failed**: max 20 (limit 1), mean 10 (limit 0.1); ssim 0.9877, phash 0 | ![](pictures/002-a.before.png) | ![](pictures/002-a.after.png) | ![](pictures/002-a.difference.png)<br>×12 |
| b | **error**, node 3 &lt;KSampler> \| "lost" | | | |
| d | **orphan**, there is no d.json | | | |
| c | **no golden** | | | |

1 without any difference.

1 not run: nothing that they depend on changed.
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
