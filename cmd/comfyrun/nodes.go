package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/nodes"
)

func nodesCommand() *cobra.Command {
	var flags modelFlags
	var defined nodeFlags
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "nodes [CLASS]",
		Short: "List the node types, or the inputs and outputs of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			catalog, err := catalogOf(cmd, &flags, &defined)
			if err != nil {
				return err
			}
			types, err := chosenTypes(catalog, args)
			if err != nil {
				return err
			}
			return writeTypes(cmd.OutOrStdout(), types, len(args) > 0, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "write ComfyUI's object_info")
	flags.add(cmd)
	defined.add(cmd)
	return cmd
}

// catalogOf builds the catalogue for looking at: it opens no library.
func catalogOf(cmd *cobra.Command, flags *modelFlags, defined *nodeFlags) (*engine.Catalog, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	folders, err := flags.folders(home)
	if err != nil {
		return nil, err
	}
	catalog, _, err := defined.catalog(home, &nodes.Runtime{Models: folders})
	return catalog, err
}

func chosenTypes(catalog *engine.Catalog, classes []string) ([]*engine.NodeType, error) {
	if len(classes) == 0 {
		return catalog.Types(), nil
	}
	t, ok := catalog.Type(classes[0])
	if !ok {
		return nil, usagef("list nodes: there is no class %q; comfyrun nodes lists all", classes[0])
	}
	return []*engine.NodeType{t}, nil
}

func writeTypes(w io.Writer, types []*engine.NodeType, details, asJSON bool) error {
	switch {
	case asJSON:
		return writeObjectInfo(w, types)
	case details:
		return writeType(w, types[0])
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, t := range types {
		fmt.Fprintf(table, "%s\t%s\t%s\n", t.Class, t.Category, t.Doc)
	}
	return table.Flush()
}

func writeObjectInfo(w io.Writer, types []*engine.NodeType) error {
	info := engine.Members{}
	for _, t := range types {
		info = append(info, engine.Member{Key: t.Class, Value: t.Info()})
	}
	return printJSON(w, info)
}

// writeType writes one node type: a line about it, then its inputs and outputs.
func writeType(w io.Writer, t *engine.NodeType) error {
	fmt.Fprintf(w, "%s (%s)\n", t.Class, t.Category)
	if t.Doc != "" {
		fmt.Fprintln(w, t.Doc)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	for _, in := range t.Inputs {
		fmt.Fprintf(table, "in\t%s\t%s\t%s\n", in.Name, in.Kind, inputNotes(in))
	}
	for slot, out := range t.Outputs {
		fmt.Fprintf(table, "out %d\t%s\t%s\t\n", slot, out.Name, out.Kind)
	}
	return table.Flush()
}

// inputNotes says what an input takes when it is not linked.
func inputNotes(in engine.Input) string {
	var notes []string
	if in.Optional {
		notes = append(notes, "optional")
	}
	if in.Default != nil {
		notes = append(notes, fmt.Sprintf("default %v", in.Default))
	}
	if lowest, highest := in.Min.String(), in.Max.String(); lowest+highest != "" {
		notes = append(notes, lowest+" to "+highest)
	}
	if in.Choices != nil {
		notes = append(notes, "one of "+strings.Join(in.Choices(), ", "))
	}
	if in.Doc != "" {
		notes = append(notes, in.Doc)
	}
	return strings.Join(notes, "; ")
}
