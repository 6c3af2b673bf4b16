package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine/golden"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/workflows"
)

// bisectPlace is where a workflow and what belongs to it are in a repository.
type bisectPlace struct {
	folder, base string // of the workflow
	prefix       string // of the folder, below the top of the repository, with a slash at its end unless empty
	lock         string // models.lock, below the top; "" where it is elsewhere
	input        string // the folder of pictures that it loads, likewise
}

func (p bisectPlace) sidecar() string {
	return strings.TrimSuffix(p.base, golden.WorkflowEnding) + golden.SidecarEnding
}

// drawing is the workflow as of a commit, with the pictures that it gives.
type drawing struct {
	commit  string // the first that it was drawn for
	graph   *workflows.Graph
	side    string // text of the sidecar
	options golden.Options
	lock    *models.Lock
	pinned  string            // text of lock
	inputs  map[string]string // sha256 of the pictures that it loads, by name; "" for one that is not there
	outputs []golden.Output
	failure error // of a workflow that is none: it stands for another picture
}

func (d *drawing) inputNames() []string { return slices.Sorted(maps.Keys(d.inputs)) }

// counting keeps the outputs of the nodes whose pictures the sidecar lets count.
func (d *drawing) counting(outputs []golden.Output) []golden.Output {
	if len(d.options.Nodes) == 0 {
		return outputs
	}
	return slices.DeleteFunc(slices.Clone(outputs), func(o golden.Output) bool { return !slices.Contains(d.options.Nodes, o.Node) })
}

// open finds the repository and lists the commits that may have changed the picture, oldest first; the first is the good one.
func (b *bisector) open(ctx context.Context, arg string) ([]string, error) {
	p := &b.place
	p.folder, p.base = filepath.Dir(resolved(arg)), filepath.Base(arg)
	ends, err := b.ends(ctx)
	if err != nil {
		return nil, asUsage(err)
	}
	paths, err := b.locate(ctx)
	if err != nil {
		return nil, err
	}
	if b.tester, err = b.flags.test.open(b.cmd, filepath.Join(b.work, "output")); err != nil {
		return nil, err
	}
	list, err := git(ctx, p.folder, append([]string{"--literal-pathspecs", "rev-list", "--first-parent", "--reverse", ends[0] + ".." + ends[1], "--"}, paths...)...)
	if err != nil {
		return nil, err
	}
	commits := append(ends[:1], strings.Fields(string(list))...)
	if len(commits) == 1 {
		return nil, fmt.Errorf("no commit from %s to %s changes %s or what belongs to it", b.flags.good, b.flags.bad, arg)
	}
	return commits, nil
}

// ends are the commits of GOOD and BAD.
func (b *bisector) ends(ctx context.Context) ([]string, error) {
	var ends []string
	for _, revision := range []string{b.flags.good, b.flags.bad} {
		commit, err := git(ctx, b.place.folder, "rev-parse", "--verify", "--end-of-options", revision+"^{commit}")
		if err != nil {
			return nil, fmt.Errorf("find revision %q: %w", revision, err)
		}
		ends = append(ends, strings.TrimSpace(string(commit)))
	}
	if _, err := git(ctx, b.place.folder, "merge-base", "--is-ancestor", ends[0], ends[1]); err != nil {
		return nil, fmt.Errorf("%s does not lead to %s", b.flags.good, b.flags.bad)
	}
	return ends, nil
}

// locate finds what belongs to the workflow. Pictures that are in the repository are loaded from a folder that gets those of
// each commit.
func (b *bisector) locate(ctx context.Context) (paths []string, err error) {
	p, flags := &b.place, &b.flags.test
	prefix, err := git(ctx, p.folder, "rev-parse", "--show-prefix")
	if err != nil {
		return nil, err
	}
	text, err := git(ctx, p.folder, "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	top := strings.TrimRight(string(text), "\r\n")
	p.prefix = strings.TrimRight(string(prefix), "\r\n")
	paths = []string{p.base, p.sidecar()}
	if lock := resolved(flags.pins.lock); below(top, lock, &p.lock) {
		paths = append(paths, lock)
	}
	if input := resolved(flags.input); flags.input != "" && below(top, input, &p.input) {
		paths = append(paths, input)
		flags.input = filepath.Join(b.work, "input")
		if err := os.Mkdir(flags.input, 0o755); err != nil {
			return nil, fmt.Errorf("make working folder: %w", err)
		}
	}
	return paths, nil
}

// below says whether a path is below a folder, and how it is called there.
func below(top, path string, name *string) bool {
	rel, err := filepath.Rel(top, path)
	if err != nil || !filepath.IsLocal(rel) || rel == "." {
		return false
	}
	*name = filepath.ToSlash(rel)
	return true
}

// draw runs the workflow as of a commit, unless another commit has all the same. The error is one that the workflow is not
// to blame for.
func (b *bisector) draw(ctx context.Context, commit string) (*drawing, error) {
	d := b.read(ctx, commit)
	if interrupted(ctx) || d.failure != nil {
		return d, ctx.Err()
	}
	j := b.job(d)
	g, err := j.graph(&b.tester.session.flags.rows)
	if err != nil {
		d.failure = asUsage(err)
		return d, nil
	}
	if err := b.usePins(d); err != nil {
		return nil, fmt.Errorf("models.lock as of %.12s: %w", commit, err)
	}
	key, err := b.key(g, d)
	if err != nil {
		return nil, err
	}
	if same, ok := b.drawn[key]; ok {
		return same, nil
	}
	b.runs++
	d.outputs, err = b.tester.outputs(ctx, j)
	switch {
	case interrupted(ctx):
		return nil, ctx.Err()
	case err != nil && testExit(err) == exitUsage:
		d.failure = err
	case err != nil:
		return nil, fmt.Errorf("%s as of %.12s: %w", b.place.base, commit, err)
	}
	b.drawn[key] = d
	return d, nil
}

func (b *bisector) job(d *drawing) *job {
	j := testJob(&source{name: b.place.base, graph: d.graph}, d.options)
	j.row = append(j.row, b.set...)
	return j
}

// key names all that a picture is made of: the workflow as it runs, its models, the pictures that it loads.
func (b *bisector) key(g *workflows.Graph, d *drawing) (string, error) {
	names, err := b.tester.modelNames(g)
	if err != nil {
		return "", asUsage(err)
	}
	parts := []string{workflows.Digest(g)}
	sums := pinnedSums(b.tester.pins.lock)
	for _, name := range names {
		parts = append(parts, name, sums[name])
	}
	for _, name := range d.inputNames() {
		parts = append(parts, name, d.inputs[name])
	}
	return strings.Join(parts, "\n"), nil
}

// usePins holds models to models.lock as of a commit.
func (b *bisector) usePins(d *drawing) error {
	if b.place.lock == "" {
		return nil
	}
	if p, ok := b.pins[d.pinned]; ok {
		b.tester.pins = p
		b.tester.session.folders.Pin(p.Keeper)
		return nil
	}
	flags := b.flags.test.pins
	flags.lock = filepath.Join(b.work, fmt.Sprintf("%d.lock", len(b.pins)))
	if err := os.WriteFile(flags.lock, []byte(d.pinned), 0o644); err != nil {
		return err
	}
	p, err := flags.open(b.cmd, b.tester.home, b.tester.session.machine)
	if err != nil {
		return err
	}
	b.pins[d.pinned], b.tester.pins = p, p
	return nil
}

// read gets the workflow and what belongs to it as of a commit.
func (b *bisector) read(ctx context.Context, commit string) *drawing {
	p := b.place
	d := &drawing{commit: commit, inputs: map[string]string{}, lock: &models.Lock{}, pinned: "version = 1\n"}
	if side, err := b.blob(ctx, commit, p.prefix+p.sidecar()); err == nil {
		d.side = string(side)
	}
	if text, err := b.blob(ctx, commit, p.lock); p.lock != "" && err == nil {
		d.pinned = string(text)
	}
	var err error
	if d.lock, err = models.ParseLock([]byte(d.pinned)); err != nil {
		d.failure = asUsage(err)
		return d
	}
	text, err := b.blob(ctx, commit, p.prefix+p.base)
	if err == nil {
		d.graph, err = b.tester.reader.parse(p.base, text)
	}
	if err == nil {
		d.options, err = golden.ParseOptions([]byte(d.side))
	}
	if err == nil && p.input != "" {
		err = b.takeInputs(ctx, d)
	}
	d.failure = asUsage(err)
	return d
}

func (b *bisector) blob(ctx context.Context, commit, name string) ([]byte, error) {
	return git(ctx, b.place.folder, "cat-file", "blob", commit+":"+name)
}

// takeInputs writes the pictures that the workflow loads where it will look for them.
func (b *bisector) takeInputs(ctx context.Context, d *drawing) error {
	folder := b.flags.test.input
	g, err := b.job(d).graph(&b.tester.session.flags.rows)
	if err != nil {
		return err
	}
	for _, path := range (&touched{tester: b.tester}).inputs(g) {
		rel, err := filepath.Rel(folder, path)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(rel)
		data, err := b.blob(ctx, d.commit, b.place.input+"/"+name)
		if err != nil {
			d.inputs[name] = ""
			if err := ignoreAbsence(os.Remove(path)); err != nil {
				return err
			}
			continue
		}
		d.inputs[name] = fmt.Sprintf("%x", sha256.Sum256(data))
		if err := writeFiles(folder, []golden.Write{{Path: name, Data: data}}); err != nil {
			return err
		}
	}
	return nil
}
