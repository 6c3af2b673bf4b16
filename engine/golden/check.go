package golden

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/engine/imagefile"
)

// Output is a picture file that a run made.
type Output struct {
	Node string
	Data []byte
}

// The ways in which a test ends.
const (
	Passed   = "passed"
	Failed   = "failed"    // a picture is not what it was
	Broken   = "error"     // the run did not come to its end
	NoGolden = "no golden" // nothing to compare with
	Orphan   = "orphan"    // a golden without a workflow
	Skipped  = "skipped"
	Updated  = "updated"   // goldens were written
	Unmoved  = "untouched" // not run: nothing that it depends on changed
)

// Result is how a test ended.
type Result struct {
	Test
	Status   string
	Detail   string // why, where there is something to say beside the pictures
	Err      error  // of a broken test
	Pictures []Picture
	Seconds  float64
}

// Picture is what became of one output.
type Picture struct {
	Key    string
	Node   string // "" for a golden that no output fits
	Golden string // path of the golden, also of one that is still to be written
	// Problem is why the picture fails; "" when it is close enough.
	Problem string
	// Compared says that Difference holds measures. A golden that is a digest has
	// them only where it is equal.
	Compared   bool
	Difference compare.Difference
	Limits     compare.Limits

	Before, After imagefile.Picture // empty where there is none
	data          []byte            // of the output's file
	stale         bool              // the golden does not hold these pixels
	views         views
}

// errNoPicture is what outputs give that are no pictures.
var errNoPicture = errors.New("is no picture that can be compared")

// Check compares the outputs of a run, in their order, with the goldens. A test
// without any golden has its pictures and the status NoGolden.
func (t Test) Check(o Options, outputs []Output) Result {
	r := Result{Test: t, Status: Passed}
	outputs = counting(outputs, o.Nodes)
	keys := keysOf(outputs)
	for i, out := range outputs {
		p := Picture{Key: keys[i], Node: out.Node, Limits: o.Limits, data: out.Data}
		t.check(&p)
		r.Pictures = append(r.Pictures, p)
	}
	for _, f := range t.Goldens {
		if !slices.Contains(keys, f.Key) {
			r.Pictures = append(r.Pictures, t.unmatched(f))
		}
	}
	switch {
	case len(outputs) == 0 && len(t.Goldens) == 0:
		r.Status, r.Detail = NoGolden, "and no picture"
	case len(t.Goldens) == 0:
		r.Status = NoGolden
	case slices.ContainsFunc(r.Pictures, func(p Picture) bool { return p.Problem != "" }):
		r.Status = Failed
	}
	return r
}

// check fills in how an output compares with its golden.
func (t Test) check(p *Picture) {
	p.Golden, p.stale = t.Name+dotted(p.Key)+PictureEnding, true
	after, err := decode(p.data)
	if err != nil {
		p.Problem = errNoPicture.Error()
		return
	}
	p.After = after
	file, ok := t.Golden(p.Key)
	if !ok {
		p.Problem = "has no golden"
		return
	}
	p.Golden = file.Path
	c, err := file.Read()
	if err != nil {
		p.Problem = err.Error()
		return
	}
	p.Before = c.Picture
	if c.Digest == compare.Digest(after) {
		p.Compared, p.Difference, p.stale = true, compare.Difference{SSIM: 1}, false
		return
	}
	if file.IsDigest() {
		p.Problem = "the pixels have another digest"
		return
	}
	if p.Difference, err = compare.Pictures(c.Picture, after); err != nil {
		p.Problem = fmt.Sprintf("is %dx%d, the golden %dx%d", after.Width, after.Height, c.Picture.Width, c.Picture.Height)
		return
	}
	p.Compared = true
	p.Problem = joined(p.Limits.Exceeded(p.Difference))
}

// unmatched is a golden whose output no longer comes.
func (t Test) unmatched(f File) Picture {
	p := Picture{Key: f.Key, Golden: f.Path, Problem: "the run gave no picture for this golden"}
	if c, err := f.Read(); err == nil {
		p.Before = c.Picture
	}
	return p
}

// counting keeps the outputs of the nodes that count.
func counting(outputs []Output, nodes []string) []Output {
	if len(nodes) == 0 {
		return outputs
	}
	var kept []Output
	for _, o := range outputs {
		if slices.Contains(nodes, o.Node) {
			kept = append(kept, o)
		}
	}
	return kept
}

var unfit = regexp.MustCompile(`[^A-Za-z0-9_-]+`)

// keysOf gives each output its key.
func keysOf(outputs []Output) []string {
	several := slices.ContainsFunc(outputs, func(o Output) bool { return o.Node != outputs[0].Node })
	count := map[string]int{}
	var keys []string
	for _, o := range outputs {
		key := ""
		if several {
			key = unfit.ReplaceAllString(o.Node, "-")
		}
		if count[o.Node]++; count[o.Node] > 1 {
			if key != "" {
				key += "."
			}
			key += strconv.Itoa(count[o.Node])
		}
		keys = append(keys, key)
	}
	return keys
}

func dotted(key string) string {
	if key == "" {
		return ""
	}
	return "." + key
}

// Write is a file that an update writes.
type Write struct {
	Path string
	Data []byte
}

// Updates lists the goldens of a result that do not hold the pixels of their
// outputs, with what they should hold. New ones are pictures, or digests if asked
// for; what is there keeps its kind.
func (r Result) Updates(digests bool, stamp string) ([]Write, error) {
	var writes []Write
	for _, p := range r.Pictures {
		if !p.stale || p.After.Width == 0 {
			continue
		}
		file, there := r.Golden(p.Key)
		if !there {
			file = File{Path: p.Golden, Key: p.Key}
			if digests {
				file.Path = r.Name + dotted(p.Key) + DigestEnding
			}
		}
		data := p.data
		if file.IsDigest() {
			data = DigestText(p.After, stamp)
		} else if !bytes.HasPrefix(data, []byte("\x89PNG")) {
			var err error
			if data, err = encode(p.After); err != nil {
				return nil, fmt.Errorf("write golden %s: %w", file.Path, err)
			}
		}
		writes = append(writes, Write{file.Path, data})
	}
	return writes, nil
}

// encode writes a picture as PNG.
func encode(p imagefile.Picture) ([]byte, error) {
	var b bytes.Buffer
	err := imagefile.WritePNG(&b, p, imagefile.PNGOptions{})
	return b.Bytes(), err
}

// Settle says that the goldens of a result were written: the test has become what
// it gave.
func (r *Result) Settle(writes []Write) {
	r.Status = Updated
	var names []string
	for _, w := range writes {
		names = append(names, filepath.Base(w.Path))
	}
	r.Detail = joined(names)
}

// Apart says what is different about the outputs of two runs, which are paired by
// their order; "" when all are within the limits.
func Apart(before, after []Output, limits compare.Limits) (string, error) {
	if len(before) != len(after) {
		return fmt.Sprintf("%d pictures in place of %d", len(after), len(before)), nil
	}
	keys := keysOf(after)
	for i := range before {
		a, err := decode(before[i].Data)
		if err != nil {
			return "", fmt.Errorf("compare pictures: %w", err)
		}
		b, err := decode(after[i].Data)
		if err != nil {
			return "", fmt.Errorf("compare pictures: %w", err)
		}
		d, err := compare.Pictures(a, b)
		if errors.Is(err, compare.ErrSize) {
			return fmt.Sprintf("%dx%d in place of %dx%d", b.Width, b.Height, a.Width, a.Height), nil
		}
		if len(limits.Exceeded(d)) > 0 {
			if len(keys) > 1 {
				return keys[i] + ": " + d.String(), nil
			}
			return d.String(), nil
		}
	}
	return "", nil
}
