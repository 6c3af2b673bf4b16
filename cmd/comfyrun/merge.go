package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/workflows/diff"
	"github.com/comfyrun/comfyrun/workflows/merge"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// mergeFlags are the flags of merge.
type mergeFlags struct {
	convertFlags
	json, ours, theirs bool
}

const mergeHelp = `Merge joins two versions of a workflow, OURS and THEIRS, that were both made of BASE. It works on nodes, values and links, not on
lines; all three are in the same format, which the result has too, in the layout of comfyrun fmt.

Where both changed the same thing differently there is a conflict: it is told on the standard error with both values, OUT has
the value of OURS, OUT.conflicts.json lists all of them, and the exit code is 1. With --ours or --theirs that side is right
wherever there is a conflict; they are told of and the exit code is 0. OUT is a sound workflow in every case.

comfyrun git install makes this the merge of a Git repository.`

func mergeCommand() *cobra.Command {
	var flags mergeFlags
	cmd := &cobra.Command{
		Use:     "merge BASE OURS THEIRS",
		Short:   "Merge two versions of a workflow",
		Long:    mergeHelp,
		Example: "  comfyrun merge base.json mine.json theirs.json -o merged.json",
		Args:    cobra.ExactArgs(3),
		RunE:    flags.run,
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	cmd.Flags().StringArrayVar(&flags.objectInfo, "object-info", nil, "JSON file of node definitions, as GET /object_info gives them; may be repeated")
	cmd.Flags().StringVarP(&flags.output, "output", "o", "-", "file to write; - is the standard output")
	cmd.Flags().BoolVar(&flags.json, "json", false, "write conflicts as JSON to the standard output; needs --output FILE")
	cmd.Flags().BoolVar(&flags.ours, "ours", false, "OURS is right where there is a conflict")
	cmd.Flags().BoolVar(&flags.theirs, "theirs", false, "THEIRS is right where there is a conflict")
	cmd.MarkFlagsMutuallyExclusive("ours", "theirs")
	return cmd
}

func (f *mergeFlags) run(cmd *cobra.Command, args []string) error {
	if f.json && f.output == "-" {
		return usagef("merge: --json needs --output FILE, since both write to the standard output")
	}
	var texts [3][]byte
	for i, arg := range args {
		var err error
		if texts[i], err = readText(arg, cmd.InOrStdin()); err != nil {
			return usagef("read workflow: %w", err)
		}
	}
	r, err := f.merge(cmd, texts)
	if err != nil {
		return usagef("merge: %w", err)
	}
	if f.output == "-" {
		_, err = cmd.OutOrStdout().Write(r.Data)
	} else if err = writeFile(f.output, r.Data); err == nil {
		err = writeConflicts(f.output, f.output, r)
	}
	if err != nil {
		return fmt.Errorf("write workflow: %w", err)
	}
	if f.json {
		data, err := mergeJSON(f.output, r)
		if err != nil {
			return err
		}
		if _, err := cmd.OutOrStdout().Write(data); err != nil {
			return fmt.Errorf("write conflicts: %w", err)
		}
	}
	if err := tellMerge(cmd.ErrOrStderr(), r); err != nil || f.ours || f.theirs {
		return err
	}
	return conflictError(args[1], r)
}

// merge merges with the definitions of the flags, which only drawings need.
func (f *mergeFlags) merge(cmd *cobra.Command, texts [3][]byte) (*merge.Result, error) {
	options := merge.Options{}
	if f.theirs {
		options.Prefer = merge.Theirs
	}
	if ui.Is(texts[1]) {
		known, err := f.definitions(cmd)
		if err != nil {
			return nil, err
		}
		options.Definitions = known
	}
	return merge.Merge(texts[0], texts[1], texts[2], options)
}

// errConflict is what a merge ends with that is not clean.
var errConflict = errors.New("the merge has conflicts")

func conflictError(name string, r *merge.Result) error {
	switch n := len(r.Conflicts); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s: 1 conflict: %w", name, errConflict)
	default:
		return fmt.Errorf("%s: %d conflicts: %w", name, n, errConflict)
	}
}

// conflictsSuffix is what the file of conflicts has behind the name of the workflow.
const conflictsSuffix = ".conflicts.json"

// writeConflicts writes the conflicts beside a file, or takes those of an earlier merge away.
func writeConflicts(path, name string, r *merge.Result) error {
	path += conflictsSuffix
	if len(r.Conflicts) == 0 {
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
		return nil
	}
	data, err := mergeJSON(name, r)
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

// mergeJSON is what happened, for programs.
func mergeJSON(name string, r *merge.Result) ([]byte, error) {
	all := *r
	if all.Conflicts == nil {
		all.Conflicts = []merge.Conflict{}
	}
	if all.Renumbered == nil {
		all.Renumbered = []merge.Renumbering{}
	}
	data, err := json.MarshalIndent(struct {
		Version int    `json:"version"`
		File    string `json:"file"`
		*merge.Result
	}{1, name, &all}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write conflicts: %w", err)
	}
	return append(data, '\n'), nil
}

// tellMerge tells of conflicts and of new ids in words.
func tellMerge(w io.Writer, r *merge.Result) error {
	var b strings.Builder
	for _, c := range r.Conflicts {
		fmt.Fprintf(&b, "conflict: %s: base %s, ours %s, theirs %s; kept %s\n", conflictPlace(c), stateText(c.Base), stateText(c.Ours),
			stateText(c.Theirs), c.Kept)
	}
	for _, n := range r.Renumbered {
		fmt.Fprintf(&b, "renumbered: their %s %s is %s\n", n.Class, n.From, n.To)
	}
	if r.Layout > 0 {
		fmt.Fprintf(&b, "layout: %d nodes were moved or painted on both sides\n", r.Layout)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

func conflictPlace(c merge.Conflict) string {
	place := c.Input
	if c.Node != nil {
		place = strings.TrimSpace(c.Node.String() + " " + c.Input)
	}
	if c.Sheet != nil {
		place = fmt.Sprintf("subgraph %q, %s", c.Sheet.Name, place)
	}
	switch c.Kind {
	case merge.Deleted:
		return place + " is deleted on one side and changed on the other"
	case merge.Used:
		return place + " is linked to what the other side deleted"
	}
	return place
}

func stateText(s merge.State) string {
	switch {
	case s.Deleted:
		return "deletes it"
	case s.From != nil:
		return "from " + s.From.String()
	case s.Value != nil:
		return diff.Short(*s.Value)
	}
	return "nothing"
}
