package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// diffFlags are the flags of diff.
type diffFlags struct {
	convertFlags
	json, html, exitCode, ignoreLayout bool
	color                              string
}

const diffHelp = `Diff tells in words what is different in the second of two workflows: nodes, values, links, prompts by word. Nodes are the
same or not by what they are and how they are linked, so that new ids alone are no difference. Moved nodes are counted.

  comfyrun diff FILE                 what changed in FILE since the last commit
  comfyrun diff OLD NEW              files, or REVISION:PATH of a Git repository; - is the standard input
  comfyrun diff REV..REV -- FILE     FILE in two revisions; with one REV, that and the file as it is

Files may be in the editor's format, in the API format, or pictures; if one is a drawing and the other is not, the drawing is
converted first. --json has the same listing for programs, --html a page with both graphs side by side.`

func diffCommand() *cobra.Command {
	var flags diffFlags
	cmd := &cobra.Command{
		Use:     "diff [OLD] NEW | REV[..REV] -- FILE",
		Short:   "Tell two versions of a workflow apart in words",
		Long:    diffHelp,
		Example: "  comfyrun diff workflow.json\n  comfyrun diff main..HEAD -- workflow.json --html -o diff.html",
		Args:    cobra.RangeArgs(1, 2),
		RunE:    flags.run,
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	cmd.Flags().StringArrayVar(&flags.objectInfo, "object-info", nil, "JSON file of node definitions, as GET /object_info gives them; may be repeated")
	cmd.Flags().BoolVar(&flags.json, "json", false, "write the differences as JSON")
	cmd.Flags().BoolVar(&flags.html, "html", false, "write a page with drawings of both")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "-", "file to write; - is the standard output")
	cmd.Flags().BoolVar(&flags.exitCode, "exit-code", false, "end with exit code 1 if there is a difference")
	cmd.Flags().BoolVar(&flags.ignoreLayout, "ignore-layout", false, "places, sizes and colours are no difference")
	cmd.Flags().StringVar(&flags.color, "color", "auto", "colours: auto (on a terminal), always or never")
	cmd.MarkFlagsMutuallyExclusive("json", "html")
	return cmd
}

// errDiffer is what --exit-code finds.
var errDiffer = errors.New("the workflows differ")

func (f *diffFlags) run(cmd *cobra.Command, args []string) error {
	color, err := useColor(f.color, cmd.OutOrStdout())
	if err != nil {
		return err
	}
	specs, err := diffSpecs(args, cmd.ArgsLenAtDash())
	if err != nil {
		return err
	}
	var texts [2][]byte
	for i, spec := range specs {
		if texts[i], err = spec.read(cmd.Context(), cmd.InOrStdin()); err != nil {
			return usagef("read workflow: %w", err)
		}
	}
	d, err := f.compare(cmd, texts, [2]string{specs[0].name(), specs[1].name()})
	if err != nil {
		return err
	}
	if f.ignoreLayout {
		d.Layout = diff.Layout{}
	}
	data := []byte(d.Text(color))
	switch {
	case f.json:
		if data, err = d.JSON(); err != nil {
			return fmt.Errorf("write difference: %w", err)
		}
		data = append(data, '\n')
	case f.html:
		data = []byte(d.HTML())
	}
	if f.output == "-" {
		_, err = cmd.OutOrStdout().Write(data)
	} else {
		err = writeFile(f.output, data)
	}
	if err != nil {
		return fmt.Errorf("write difference: %w", err)
	}
	if f.exitCode && !d.Same() {
		return errDiffer
	}
	return nil
}

// compare compares two texts. A drawing and a graph are compared as graphs.
func (f *diffFlags) compare(cmd *cobra.Command, texts [2][]byte, names [2]string) (*diff.Diff, error) {
	reader := documentReader{definitions: func() (ui.Definitions, error) { return f.definitions(cmd) }}
	var docs [2]*diff.Document
	var err error
	for i := range texts {
		if texts[i], err = unpacked(texts[i]); err == nil {
			docs[i], err = reader.read(texts[i])
		}
		if err != nil {
			return nil, usagef("%s: %w", names[i], err)
		}
	}
	for i, doc := range docs {
		if docs[i].Drawing && !docs[1-i].Drawing {
			g, _, err := ui.Read(texts[i], reader.known, ui.Options{})
			if err != nil {
				return nil, usagef("%s: %w", names[i], err)
			}
			docs[i] = diff.FromGraph(g)
			keepTitles(docs[i], doc, docs[1-i])
		}
	}
	for i := range docs {
		docs[i].Name = names[i]
	}
	return diff.Compare(docs[0], docs[1]), nil
}

// keepTitles takes back the titles that conversion gave to nodes because of their class, where the other side has none.
func keepTitles(converted, drawn, other *diff.Document) {
	own := map[string]bool{}
	for _, s := range drawn.Sheets {
		for _, n := range s.Nodes {
			own[n.Title] = true
		}
	}
	for _, n := range converted.Sheets[0].Nodes {
		if same := other.Sheets[0].Node(n.ID); !own[n.Title] && (same == nil || same.Title == "") {
			n.Title = ""
		}
	}
}

// unpacked is the workflow that a picture carries; other data is returned as it is.
func unpacked(data []byte) ([]byte, error) {
	if !workflows.IsPicture(data) {
		return data, nil
	}
	embedded, err := workflows.FromPicture(data)
	if err != nil {
		return nil, err
	}
	if embedded.Prompt != nil {
		return embedded.Prompt, nil
	}
	return embedded.Workflow, nil
}

// documentReader reads documents; it asks for definitions only where a drawing needs them.
type documentReader struct {
	definitions func() (ui.Definitions, error)
	known       ui.Definitions
}

func (r *documentReader) read(data []byte) (*diff.Document, error) {
	if r.known == nil && ui.Is(data) {
		known, err := r.definitions()
		if err != nil {
			return nil, err
		}
		r.known = known
	}
	return diff.Parse(data, r.known)
}

// useColor says whether to write colours: on a terminal, or into the pager of Git, unless NO_COLOR is set.
func useColor(wanted string, out io.Writer) (bool, error) {
	switch wanted {
	case "always", "never":
		return wanted == "always", nil
	case "auto":
	default:
		return false, usagef("--color is %q; it may be auto, always or never", wanted)
	}
	if os.Getenv("NO_COLOR") != "" {
		return false, nil
	}
	file, ok := out.(*os.File)
	return ok && (term.IsTerminal(int(file.Fd())) || os.Getenv("GIT_PAGER_IN_USE") == "true"), nil
}

// diffSpec is where a workflow is: in a file, or in a revision.
type diffSpec struct {
	revision, path string
	// file is whether the path is that of a file, from this folder; else it is one from the top of the repository.
	file bool
}

func (s diffSpec) name() string {
	switch {
	case s.revision != "":
		return s.revision + ":" + s.path
	case s.path == "-":
		return "stdin"
	}
	return s.path
}

// diffSpecs reads the arguments; dash is how many stand before a --, or -1.
func diffSpecs(args []string, dash int) (specs [2]diffSpec, err error) {
	switch {
	case dash == 1 && len(args) == 2:
		before, after, both := strings.Cut(args[0], "..")
		if strings.HasPrefix(after, ".") {
			return specs, usagef("diff: %s: two dots are understood, three are not", args[0])
		}
		specs = [2]diffSpec{{orHead(before), args[1], true}, {"", args[1], true}}
		if both {
			specs[1].revision = orHead(after)
		}
	case len(args) == 1:
		specs = [2]diffSpec{{"HEAD", args[0], true}, {"", args[0], true}}
	default:
		for i, arg := range args {
			specs[i] = specOf(arg)
		}
	}
	for _, s := range specs {
		if strings.HasPrefix(s.revision, "-") {
			return specs, usagef("diff: %q is no revision", s.revision)
		}
	}
	return specs, nil
}

func orHead(revision string) string {
	if revision == "" {
		return "HEAD"
	}
	return revision
}

// specOf takes what is a file for that, else REVISION:PATH apart.
func specOf(arg string) diffSpec {
	revision, path, ok := strings.Cut(arg, ":")
	if _, err := os.Stat(arg); err == nil || !ok || revision == "" || path == "" {
		return diffSpec{path: arg}
	}
	return diffSpec{revision: revision, path: path}
}

func (s diffSpec) read(ctx context.Context, stdin io.Reader) ([]byte, error) {
	if s.revision == "" {
		if s.path == "-" {
			return io.ReadAll(io.LimitReader(stdin, maxSource))
		}
		return readLimited(s.path)
	}
	dir, object := "", s.revision+":"+s.path
	switch {
	case s.file && filepath.IsAbs(s.path):
		dir, object = filepath.Dir(s.path), s.revision+":./"+filepath.Base(s.path)
	case s.file:
		object = s.revision + ":./" + filepath.ToSlash(filepath.Clean(s.path))
	}
	data, err := git(ctx, dir, "cat-file", "blob", object)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name(), err)
	}
	return data, nil
}
