package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/compare"
	"github.com/comfyrun/comfyrun/engine/imagefile"
	"github.com/comfyrun/comfyrun/engine/tensor"
)

// How a replayed run compares with the old one.
const (
	replayIdentical = "identical"
	replayWithin    = "within tolerance"
	replayDiffers   = "differs"
)

// replayResult is what replay found.
type replayResult struct {
	Status   string `json:"status"`
	Receipt  string `json:"receipt"`
	Workflow string `json:"workflow"`
	// Nodes are those that could be compared, Differing those that differ, in the order in which they ran.
	Nodes     int                 `json:"nodes"`
	First     *nodeDifference     `json:"first,omitempty"`
	Differing []nodeDifference    `json:"differing"`
	Pictures  []pictureDifference `json:"pictures"`
	// Causes are what was not as it was, the likeliest first.
	Causes []string `json:"causes"`
}

// nodeDifference is a node whose outputs are not what they were.
type nodeDifference struct {
	Node  string `json:"node"`
	Class string `json:"class"`
	Title string `json:"title,omitempty"`
	// Output is the first that differs, by its name; "" where only steps do.
	Output string `json:"output,omitempty"`
	// Step counts from 1, of Steps; 0 for a node without steps, or whose steps are the same.
	Step  int    `json:"step,omitempty"`
	Steps int    `json:"steps,omitempty"`
	What  string `json:"what,omitempty"` // of the step
	// Off and StepOff estimate the root of the mean square difference of the output and of what the network predicted at
	// the step, Size and StepSize that of the values; all are 0 where nothing tells.
	Off      float64 `json:"off,omitempty"`
	Size     float64 `json:"size,omitempty"`
	StepOff  float64 `json:"step_off,omitempty"`
	StepSize float64 `json:"step_size,omitempty"`
	// named says that the output stands for a file, such as a model: it holds no numbers.
	named bool
}

// pictureDifference is a saved picture beside its repetition.
type pictureDifference struct {
	Path string `json:"path"`
	Node string `json:"node,omitempty"`
	// Problem is why there are no measures.
	Problem string   `json:"problem,omitempty"`
	Max     *int     `json:"max,omitempty"`
	Mean    *float64 `json:"mean,omitempty"`
	SSIM    *float64 `json:"ssim,omitempty"`
	PHash   *int     `json:"phash,omitempty"`
	measure compare.Difference
}

// errNothing is what comes of a receipt that cannot be compared.
var errNothing = errors.New("there is nothing to compare with: neither digests of nodes nor a saved picture")

// compare fills in the result.
func (p *replayer) compare(repeated *recorded) error {
	r := &p.result
	p.compareNodes(repeated.receipt)
	p.comparePictures(repeated)
	same, near, known := len(r.Differing) == 0, true, r.Nodes > 0
	seen := 0
	for _, d := range r.Pictures {
		if d.Problem == "" {
			seen++
			same = same && d.measure.Identical()
			near = near && len(p.limits.Exceeded(d.measure)) == 0
		}
	}
	switch {
	case !known && seen == 0:
		return errNothing
	case same:
		r.Status = replayIdentical
	case near && seen > 0 && seen == len(r.Pictures):
		r.Status = replayWithin
	default:
		r.Status = replayDiffers
	}
	return nil
}

// compareNodes goes through the nodes as they ran before. The first that differs is the first whose numbers do; where
// only names of files differ, the first of these.
func (p *replayer) compareNodes(now *receipt) {
	after := map[string]receiptNode{}
	for _, n := range now.Nodes {
		after[n.Node] = n
	}
	r := &p.result
	for _, was := range p.old.receipt.Nodes {
		is, ok := after[was.Node]
		if !ok {
			// A node inside of a defined one: the receipt's workflow has it written out, by an id of its own.
			is, ok = after[strings.ReplaceAll(was.Node, ".0.0.", ":")]
		}
		if !ok || is.Class != was.Class {
			continue // it is told as a change of the workflow
		}
		r.Nodes++
		if d, differs := p.compareNode(was, is); differs {
			r.Differing = append(r.Differing, d)
		}
	}
	first := slices.IndexFunc(r.Differing, func(d nodeDifference) bool { return !d.named })
	if first < 0 && len(r.Differing) > 0 {
		first = 0
	}
	if first >= 0 {
		r.First = &r.Differing[first]
	}
}

func (p *replayer) compareNode(was, is receiptNode) (d nodeDifference, differs bool) {
	d = nodeDifference{Node: is.Node, Class: was.Class, named: true}
	if n := p.graph.Node(is.Node); n != nil && n.Title != was.Class {
		d.Title = n.Title
	}
	differs = d.findStep(was.Steps, is.Steps)
	for i := range min(len(was.Digests), len(is.Digests)) {
		if was.Digests[i] == is.Digests[i] || was.Digests[i] == "" || is.Digests[i] == "" {
			continue
		}
		name, named := p.outputOf(was.Class, i)
		if !differs || d.Output == "" || d.named && !named {
			d.Output, d.named = name, d.named && named
			d.Off, d.Size = estimate(sketchAt(was.Sketches, i), sketchAt(is.Sketches, i))
		}
		differs = true
	}
	return d, differs
}

// numbers are the kinds of outputs whose digest is that of their content; digests of others name files.
var numbers = []string{"LATENT", "IMAGE", "MASK", "CONDITIONING", "SIGMAS", "NOISE", "INT", "FLOAT", "STRING", "BOOLEAN"}

// outputOf names output i of a class, and says whether it stands for a file.
func (p *replayer) outputOf(class string, i int) (name string, named bool) {
	t, ok := p.session.catalog.Type(class)
	if !ok || i >= len(t.Outputs) {
		return fmt.Sprintf("output %d", i), false
	}
	return t.Outputs[i].Name, !slices.Contains(numbers, t.Outputs[i].Kind)
}

// findStep looks for the first step of a sampler that differs.
func (d *nodeDifference) findStep(was, is []receiptStep) bool {
	if len(was) == 0 || len(is) == 0 {
		return false
	}
	for i := range max(len(was), len(is)) {
		if i >= len(was) || i >= len(is) {
			d.What = fmt.Sprintf("there were %d steps, now %d", len(was), len(is))
		} else if d.What = stepDifference(was[i], is[i], i); d.What != "" {
			d.StepOff, d.StepSize = was[i].Sketch.Distance(is[i].Sketch), was[i].Sketch.Size()
		}
		if d.What != "" {
			d.Step, d.Steps, d.named = i+1, len(was), false
			return true
		}
	}
	return false
}

// otherPrediction is the difference whose size tells rounding from other weights.
const otherPrediction = "the network made another prediction of the same state: its weights, its prompts or its arithmetic differ"

// stepDifference says what of a step is not as it was; "" when nothing is.
func stepDifference(was, is receiptStep, i int) string {
	switch {
	case was.Sigma != is.Sigma:
		return fmt.Sprintf("the noise level is %g, it was %g", is.Sigma, was.Sigma)
	case was.State != is.State && i == 0:
		return "it starts from other noise, or another latent"
	case was.State != is.State:
		return "the sampler made another state of the same prediction"
	case was.Prediction != is.Prediction:
		return otherPrediction
	}
	return ""
}

func sketchAt(sketches []string, i int) string {
	if i >= len(sketches) {
		return ""
	}
	return sketches[i]
}

// estimate tells how far outputs are apart, and how large they are, where both have sketches.
func estimate(was, is string) (off, size float64) {
	a, errA := tensor.ParseSketch(was)
	b, errB := tensor.ParseSketch(is)
	if errA != nil || errB != nil {
		return 0, 0
	}
	return a.Distance(b), a.Size()
}

// comparePictures compares the saved pictures with the new ones.
func (p *replayer) comparePictures(repeated *recorded) {
	if p.old.alone != "" {
		p.result.Pictures = append(p.result.Pictures, p.nearest(repeated))
		return
	}
	was, is := p.old.receipt.Outputs, repeated.receipt.Outputs
	for _, node := range slices.Sorted(maps.Keys(was)) {
		for i, file := range was[node] {
			d := pictureDifference{Path: file.Path, Node: node}
			if i < len(is[node]) {
				d.read(filepath.Join(p.old.folder, filepath.FromSlash(file.Path)), file.SHA256, filepath.Join(repeated.folder, filepath.FromSlash(is[node][i].Path)))
			} else {
				d.Problem = "it was not made again"
			}
			p.result.Pictures = append(p.result.Pictures, d)
		}
	}
}

// nearest compares a picture without a receipt with that of the new ones that is most like it: it does not tell which of
// several it is.
func (p *replayer) nearest(repeated *recorded) pictureDifference {
	best := pictureDifference{Path: p.old.alone, Problem: "it was not made again"}
	for _, path := range repeated.receipt.Outputs.paths("output") {
		d := pictureDifference{Path: p.old.alone}
		d.read(p.old.alone, "", filepath.Join(repeated.folder, filepath.FromSlash(path)))
		if best.Problem != "" || d.Problem == "" && d.measure.Mean < best.measure.Mean {
			best = d
		}
	}
	return best
}

// read measures two picture files. A sum that is not empty must be the old one's.
func (d *pictureDifference) read(was, sum, is string) {
	if found, err := fileSum(was); errors.Is(err, os.ErrNotExist) {
		d.Problem = "the old one is gone"
		return
	} else if err == nil && sum != "" && found != sum {
		d.Problem = "the old one was changed since"
		return
	}
	a, err := readPicture(was)
	if err == nil {
		var b imagefile.Picture
		if b, err = readPicture(is); err == nil {
			d.measure, err = compare.Pictures(a, b)
		}
	}
	if err != nil {
		d.Problem = err.Error()
		return
	}
	m := &d.measure
	d.Max, d.Mean, d.SSIM, d.PHash = &m.Max, &m.Mean, &m.SSIM, &m.PHash
}

func readPicture(path string) (imagefile.Picture, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return imagefile.Picture{}, err
	}
	frames, err := imagefile.Decode(data, 0)
	if err != nil {
		return imagefile.Picture{}, fmt.Errorf("%s: %w", path, err)
	}
	return frames[0], nil
}

// label is the node and step in words.
func (d nodeDifference) label() string {
	text := fmt.Sprintf("node %s %q", d.Node, d.Class)
	if d.Title != "" {
		text = fmt.Sprintf("node %s %q (%s)", d.Node, d.Title, d.Class)
	}
	switch {
	case d.Step > 0:
		text += fmt.Sprintf(", step %d of %d", d.Step, d.Steps)
	case d.Output != "":
		text += ", " + d.Output
	}
	return text
}

// roundingLimit is the relative difference below which numbers are as far apart as different orders of summation make
// them.
const roundingLimit = 1e-4

// distanceText is how far apart numbers are, in words.
func distanceText(off, size float64) string {
	switch {
	case size == 0:
		return ""
	case off == 0:
		return "off by less than can be told"
	case off < roundingLimit*size:
		return fmt.Sprintf("off by about %.1g where values are about %.2g: rounding", off, size)
	}
	return fmt.Sprintf("off by about %.2g where values are about %.2g", off, size)
}

// text is the node with how far its outputs are off.
func (d nodeDifference) text() string {
	text := d.label()
	if d.Step > 0 && d.Output != "" {
		text += ": " + d.Output
	}
	if distance := distanceText(d.Off, d.Size); distance != "" {
		text += " " + distance
	}
	return text
}

// reason is what of the step was not as it was.
func (d nodeDifference) reason() string {
	if d.What == otherPrediction {
		return joinWords(d.What, distanceText(d.StepOff, d.StepSize))
	}
	return d.What
}

// headline is the result in a line.
func (r *replayResult) headline() string {
	text := r.Receipt + ": " + r.Status
	if r.First != nil {
		text += ", first at " + r.First.label()
	}
	return text
}

// mostListed bounds the nodes that are listed for people.
const mostListed = 12

// text is the result for people.
func (r *replayResult) text() string {
	var b strings.Builder
	fmt.Fprintln(&b, r.headline())
	if r.First != nil && r.First.What != "" {
		fmt.Fprintf(&b, "  %s\n", r.First.reason())
	}
	for i, d := range r.Differing {
		if i == mostListed {
			fmt.Fprintf(&b, "  … and %d more nodes\n", len(r.Differing)-i)
			break
		}
		fmt.Fprintf(&b, "  %s\n", d.text())
	}
	for _, d := range r.Pictures {
		text := d.Problem
		if text == "" {
			text = d.measure.String()
		}
		fmt.Fprintf(&b, "  picture %s: %s\n", d.Path, text)
	}
	if r.Nodes == 0 {
		fmt.Fprintln(&b, "  no nodes compared: a picture alone does not tell of them")
	} else {
		fmt.Fprintf(&b, "  %d nodes compared\n", r.Nodes)
	}
	switch {
	case len(r.Causes) > 0 && r.Status == replayIdentical:
		fmt.Fprintln(&b, "what was not as it was, without effect:")
	case len(r.Causes) > 0:
		fmt.Fprintln(&b, "what was not as it was, the likeliest cause first:")
	case r.Status != replayIdentical:
		fmt.Fprintln(&b, "models, versions, device and threads are as the receipt notes them")
	}
	for _, cause := range r.Causes {
		fmt.Fprintf(&b, "  %s\n", cause)
	}
	return b.String()
}

// err is the error of the command.
func (r *replayResult) err(exact bool) error {
	if r.Status == replayDiffers || exact && r.Status == replayWithin {
		text := "replay " + r.headline()
		if len(r.Causes) > 0 {
			text += "; likely because: " + r.Causes[0]
		}
		return errors.New(text)
	}
	return nil
}
