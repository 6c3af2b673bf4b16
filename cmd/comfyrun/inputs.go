package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/inputs"
	"github.com/comfyrun/comfyrun/engine/library"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// inputsFlags are the flags of inputs.
type inputsFlags struct {
	models  modelFlags
	nodes   nodeFlags
	catalog string
	json    bool
}

const inputsHelp = `Inputs lists the values of workflows that exec --set, --batch and --sweep can change: how they are called there, what they
are now and what they take. Files are in either format, or pictures that carry a workflow; a FILE of - is the standard input.
Inputs that are linked are not listed. Parameters of named workflows (docs/named-workflows.md), which titles of nodes and
a sidecar NAME.params.toml declare, are marked.`

func inputsCommand() *cobra.Command {
	var flags inputsFlags
	cmd := &cobra.Command{
		Use:     "inputs FILE…",
		Short:   "List the inputs of workflows that can be set",
		Long:    inputsHelp,
		Example: "  comfyrun inputs workflow.json\n  comfyrun exec workflow.json --set KSampler.seed=7",
		Args:    cobra.MinimumNArgs(1),
		RunE:    func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args) },
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	cmd.Flags().StringVar(&flags.catalog, "catalog", "", "JSON file of node types to use instead of the built-in ones, as GET /object_info gives them")
	cmd.Flags().BoolVar(&flags.json, "json", false, "write one JSON object per input")
	cmd.MarkFlagsMutuallyExclusive("catalog", "nodes")
	return cmd
}

func (f *inputsFlags) run(cmd *cobra.Command, args []string) error {
	catalog, definitions, err := f.open(cmd)
	if err != nil {
		return err
	}
	reader := sourceReader{stdin: cmd.InOrStdin(), warnings: cmd.ErrOrStderr(), definitions: definitions}
	sources, err := reader.readAll(args)
	if err != nil {
		return err
	}
	for i, s := range sources {
		list := inputs.List(s.graph, catalog)
		if err := markParameters(s, catalog, list, cmd.ErrOrStderr()); err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		switch {
		case f.json:
			err = writeInputLines(out, s.name, list)
		case len(sources) > 1 && i > 0:
			err = writeInputTable(out, "\n"+s.name+"\n", list)
		case len(sources) > 1:
			err = writeInputTable(out, s.name+"\n", list)
		default:
			err = writeInputTable(out, "", list)
		}
		if err != nil {
			return fmt.Errorf("write inputs: %w", err)
		}
	}
	return nil
}

// open gives the node types, and the same in the editor's terms.
func (f *inputsFlags) open(cmd *cobra.Command) (*engine.Catalog, func() (ui.Definitions, error), error) {
	if f.catalog == "" {
		catalog, err := catalogOf(cmd, &f.models, &f.nodes)
		return catalog, func() (ui.Definitions, error) { return catalogDefinitions(catalog) }, err
	}
	return readCatalog(f.catalog)
}

// readCatalog reads the node types of a file.
func readCatalog(file string) (*engine.Catalog, func() (ui.Definitions, error), error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, usagef("read --catalog: %w", err)
	}
	catalog, err := engine.ParseObjectInfo(data)
	if err != nil {
		return nil, nil, usagef("read --catalog %s: %w", file, err)
	}
	return catalog, func() (ui.Definitions, error) { return ui.ParseObjectInfo(data) }, nil
}

// maxSidecar bounds the bytes of a sidecar, as a server does.
const maxSidecar = 1 << 20

// markParameters names the inputs that are parameters. Mistakes in declarations are warnings: the inputs are there.
func markParameters(s *source, catalog *engine.Catalog, list []inputs.Input, warnings io.Writer) error {
	sidecar, err := readSidecar(s.name)
	if err != nil {
		return usagef("read sidecar: %w", err)
	}
	params, err := library.Parameters(s.graph, sidecar, catalog)
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(warnings, "warning: %s: %s\n", s.name, line)
		}
	}
	for _, p := range params {
		for _, target := range p.Targets {
			for i := range list {
				if list[i].Node == target.Node && list[i].Input == target.Input {
					list[i].Parameter = p.Name
				}
			}
		}
	}
	return nil
}

// readSidecar reads the file beside a workflow that may declare parameters; nil when there is none.
func readSidecar(workflow string) ([]byte, error) {
	if workflow == "stdin" {
		return nil, nil
	}
	file, err := os.Open(library.SidecarOf(workflow))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxSidecar))
}

func writeInputLines(w io.Writer, file string, list []inputs.Input) error {
	var b bytes.Buffer
	for _, in := range list {
		line, err := encodeLine(struct {
			File string `json:"file"`
			inputs.Input
		}{file, in})
		if err != nil {
			return err
		}
		b.Write(line)
	}
	_, err := w.Write(b.Bytes())
	return err
}

func writeInputTable(w io.Writer, head string, list []inputs.Input) error {
	if _, err := io.WriteString(w, head); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "SET\tNODE\tCLASS\tTITLE\tTYPE\tVALUE\tTAKES")
	for _, in := range list {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			shown(in.Set), shown(in.Node), shown(in.Class), shown(in.Title), in.Type, shortened(in.Value.Raw()), shown(takes(in)))
	}
	return table.Flush()
}

// shown keeps a text of a file from breaking the table's lines.
func shown(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// shortened is a value as far as a table has room for it.
func shortened(raw string) string {
	const room = 48
	if runes := []rune(shown(raw)); len(runes) > room {
		return string(runes[:room-1]) + "…"
	}
	return shown(raw)
}

// takes says what an input takes, and which parameter it is.
func takes(in inputs.Input) string {
	const most = 6
	var notes []string
	switch lowest, highest := in.Min.String(), in.Max.String(); {
	case !in.Known:
		notes = append(notes, "not known here")
	case lowest != "" && highest != "":
		notes = append(notes, lowest+" to "+highest)
	case lowest != "":
		notes = append(notes, "from "+lowest)
	case highest != "":
		notes = append(notes, "up to "+highest)
	case len(in.Choices) > most:
		notes = append(notes, fmt.Sprintf("%s … (%d choices)", strings.Join(in.Choices[:most], ", "), len(in.Choices)))
	case len(in.Choices) > 0:
		notes = append(notes, strings.Join(in.Choices, ", "))
	}
	if in.Parameter != "" {
		notes = append(notes, "parameter "+in.Parameter)
	}
	return strings.Join(notes, "; ")
}
