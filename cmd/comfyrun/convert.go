package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// convertFlags are the flags of convert.
type convertFlags struct {
	models     modelFlags
	nodes      nodeFlags
	output     string
	objectInfo []string
	seed       uint64
	expand     bool
}

const convertHelp = `Convert writes workflows in ComfyUI's API format. It reads files as the editor saves them, and pictures that ComfyUI made:
PNG and WebP carry the workflow that drew them. A file that is in the API format already is written anew, unchanged in
meaning. A FILE of - is the standard input.

The editor's files hold a node's values without names, so the classes of the nodes must be known. comfyrun knows its own;
for others, --object-info takes the answer of GET /object_info of a ComfyUI that has them, and may be repeated. A value that
does not fit its widget is an error that names both: the file is of another version of that class.

Texts like {day|night} stay as they are. With --expand-prompts one alternative is chosen, always the same for one SEED.

Several FILEs need --output FOLDER; each becomes NAME.json there.`

func convertCommand() *cobra.Command {
	var flags convertFlags
	cmd := &cobra.Command{
		Use:     "convert FILE…",
		Short:   "Turn the editor's workflows, or pictures, into API workflows",
		Long:    convertHelp,
		Example: "  comfyrun convert workflow.json -o workflow.api.json\n  comfyrun convert ComfyUI_00001_.png | comfyrun exec -",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			flags.expand = cmd.Flags().Changed("expand-prompts")
			return flags.run(cmd, args)
		},
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	cmd.Flags().StringVarP(&flags.output, "output", "o", "-", "file to write, or folder; - is the standard output")
	cmd.Flags().StringArrayVar(&flags.objectInfo, "object-info", nil, "JSON file of node definitions, as GET /object_info gives them; may be repeated")
	cmd.Flags().Uint64Var(&flags.seed, "expand-prompts", 0, "choose from {a|b} in texts, by this SEED")
	return cmd
}

func (f *convertFlags) run(cmd *cobra.Command, args []string) error {
	targets, err := f.targets(args)
	if err != nil {
		return err
	}
	reader := sourceReader{stdin: cmd.InOrStdin(), warnings: cmd.ErrOrStderr()}
	reader.definitions = func() (ui.Definitions, error) { return f.definitions(cmd) }
	if f.expand {
		reader.random = func() func() float64 { return rand.New(rand.NewPCG(f.seed, 0)).Float64 }
	}
	sources, err := reader.readAll(args)
	if err != nil {
		return err
	}
	for i, s := range sources {
		data := workflows.Encode(s.graph)
		if targets[i] == "-" {
			_, err = cmd.OutOrStdout().Write(data)
		} else {
			err = writeFile(targets[i], data)
		}
		if err != nil {
			return fmt.Errorf("write workflow: %w", err)
		}
	}
	return nil
}

// targets says where each workflow goes, before any is read.
func (f *convertFlags) targets(args []string) ([]string, error) {
	info, err := os.Stat(f.output)
	folder := err == nil && info.IsDir() || strings.HasSuffix(f.output, string(filepath.Separator))
	if len(args) > 1 && !folder {
		return nil, usagef("convert: %d files need --output FOLDER, a folder that is there or a name that ends in %c", len(args), filepath.Separator)
	}
	if !folder {
		return []string{f.output}, otherThan(f.output, args[0])
	}
	if err := os.MkdirAll(f.output, 0o755); err != nil {
		return nil, fmt.Errorf("make output folder: %w", err)
	}
	taken := map[string]string{}
	var targets []string
	for _, arg := range args {
		name := "stdin"
		if arg != "-" {
			name = strings.TrimSuffix(filepath.Base(arg), filepath.Ext(arg))
		}
		target := filepath.Join(f.output, name+".json")
		if before, ok := taken[target]; ok {
			return nil, usagef("convert: both %s and %s would become %s", before, arg, target)
		}
		if err := otherThan(target, arg); err != nil {
			return nil, err
		}
		taken[target] = arg
		targets = append(targets, target)
	}
	return targets, nil
}

// otherThan refuses to write a graph over the drawing that it is made from, which holds more.
func otherThan(target, source string) error {
	a, errA := os.Stat(target)
	b, errB := os.Stat(source)
	if target != "-" && errA == nil && errB == nil && os.SameFile(a, b) {
		return usagef("convert: %s would be written over itself", source)
	}
	return nil
}

// definitions are those of the files, then those of comfyrun's own catalogue.
func (f *convertFlags) definitions(cmd *cobra.Command) (ui.Definitions, error) {
	var all ui.Several
	for _, file := range f.objectInfo {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, usagef("read --object-info: %w", err)
		}
		info, err := ui.ParseObjectInfo(data)
		if err != nil {
			return nil, usagef("read --object-info %s: %w", file, err)
		}
		all = append(all, info)
	}
	own, err := ownDefinitions(cmd, &f.models, &f.nodes)
	return append(all, own), err
}

// ownDefinitions are those of the catalogue; no library is opened for them.
func ownDefinitions(cmd *cobra.Command, models *modelFlags, nodes *nodeFlags) (ui.Definitions, error) {
	catalog, err := catalogOf(cmd, models, nodes)
	if err != nil {
		return nil, err
	}
	return catalogDefinitions(catalog)
}

// catalogDefinitions puts a catalogue into the editor's terms, by way of object_info as the editor gets it.
func catalogDefinitions(catalog *engine.Catalog) (ui.Definitions, error) {
	info := engine.Members{}
	for _, t := range catalog.Types() {
		info = append(info, engine.Member{Key: t.Class, Value: t.Info()})
	}
	data, err := json.Marshal(info)
	if err != nil {
		return nil, fmt.Errorf("write object_info: %w", err)
	}
	return ui.ParseObjectInfo(data)
}

// sourceReader reads workflows that a command line names, in either format or out of pictures.
type sourceReader struct {
	stdin io.Reader
	// definitions are asked for only where a workflow is in the editor's format.
	definitions func() (ui.Definitions, error)
	known       ui.Definitions
	options     ui.Options
	random      func() func() float64 // a new one for each workflow; nil: prompts are not expanded
	warnings    io.Writer
}

// readAll reads the workflows that the arguments name.
func (r *sourceReader) readAll(args []string) ([]*source, error) {
	var sources []*source
	seen := false
	for _, arg := range args {
		if arg == "-" && seen {
			return nil, usagef("read workflow: - is given twice")
		}
		seen = seen || arg == "-"
		s, err := r.read(arg)
		if err != nil {
			return nil, asUsage(err)
		}
		sources = append(sources, s)
	}
	return sources, nil
}

func (r *sourceReader) read(arg string) (*source, error) {
	s := &source{name: arg}
	var data []byte
	var err error
	if arg == "-" {
		s.name = "stdin"
		data, err = io.ReadAll(io.LimitReader(r.stdin, maxSource+1))
	} else {
		data, err = readLimited(arg)
	}
	if err == nil && len(data) > maxSource {
		err = fmt.Errorf("%s has more than %d MiB", s.name, maxSource>>20)
	}
	if err != nil {
		return nil, fmt.Errorf("read workflow: %w", err)
	}
	if s.graph, err = r.parse(s.name, data); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	return s, nil
}

// maxSource bounds a file that is read for its workflow: a picture may be larger than any workflow.
const maxSource = 512 << 20

func readLimited(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxSource+1))
}

func (r *sourceReader) parse(name string, data []byte) (*workflows.Graph, error) {
	if workflows.IsPicture(data) || ui.Is(data) {
		if err := r.define(); err != nil {
			return nil, err
		}
	}
	options := r.options
	if r.random != nil {
		options.Random = r.random()
	}
	g, warnings, err := ui.Read(data, r.known, options)
	var text bytes.Buffer
	for _, w := range warnings {
		fmt.Fprintf(&text, "warning: %s: %v\n", name, w)
	}
	if _, failed := r.warnings.Write(text.Bytes()); err == nil {
		err = failed
	}
	return g, err
}

func (r *sourceReader) define() (err error) {
	if r.known == nil && r.definitions != nil {
		r.known, err = r.definitions()
	}
	return err
}
