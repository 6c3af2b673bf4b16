package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/workflows"
	"github.com/comfyrun/comfyrun/workflows/diff"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// gitCleanCommand is the filter that files go through on their way into a repository.
func gitCleanCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "clean PATH",
		Short: "Write the standard input in the canonical layout if it is a workflow",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := readText("-", cmd.InOrStdin())
			if err != nil {
				return fmt.Errorf("read file: %w", err)
			}
			if formatted, err := workflows.Format(data); err == nil {
				data = formatted
			} else if len(data) > workflows.MaxBytes {
				return fmt.Errorf("read file: it has more than %d MiB", workflows.MaxBytes>>20)
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
}

// gitTextCommand is the text that Git compares by lines.
func gitTextCommand() *cobra.Command {
	var flags convertFlags
	cmd := &cobra.Command{
		Use:   "textconv FILE",
		Short: "Write a workflow as text, a line for each value and link",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := readText(args[0], cmd.InOrStdin())
			if err != nil {
				return usagef("read file: %w", err)
			}
			reader := documentReader{definitions: func() (ui.Definitions, error) { return flags.definitions(cmd) }}
			if doc, err := reader.read(data); err == nil {
				data = []byte(diff.Describe(doc))
			}
			_, err = cmd.OutOrStdout().Write(data)
			return err
		},
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	return cmd
}

// gitDiffCommand is what git diff calls: PATH OLD-FILE OLD-HEX OLD-MODE NEW-FILE NEW-HEX NEW-MODE, and for a renamed file
// its new path and a text.
func gitDiffCommand() *cobra.Command {
	var flags diffFlags
	cmd := &cobra.Command{
		Use:   "diff-driver PATH OLD-FILE OLD-HEX OLD-MODE NEW-FILE NEW-HEX NEW-MODE",
		Short: "Tell two versions of a file apart in words",
		Args:  cobra.RangeArgs(1, 9),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 7 {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "* unmerged: %s\n", args[0])
				return err
			}
			return flags.gitDiff(cmd, args)
		},
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	return cmd
}

func (f *diffFlags) gitDiff(cmd *cobra.Command, args []string) error {
	path, before, after := args[0], args[1], args[4]
	target, renamed := path, ""
	if len(args) > 8 {
		target, renamed = args[7], args[8]
	}
	color, err := useColor("auto", cmd.OutOrStdout())
	if err != nil {
		return err
	}
	words, ok := f.gitWords(cmd, [2]string{before, after}, color)
	if !ok {
		// Not two workflows: what Git itself would show. It ends with 1 where there is a difference.
		out, err := git(cmd.Context(), "", "diff", "--no-index", "--no-ext-diff", "--no-textconv", "--", before, after)
		if code := gitCode(err); code != 0 && code != 1 {
			return err
		}
		words = string(out)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "diff --comfyrun a/%s b/%s\n%s%s", path, target, renamed, words)
	return err
}

// gitWords are the differences of two files in words; false where one is no workflow.
func (f *diffFlags) gitWords(cmd *cobra.Command, files [2]string, color bool) (string, bool) {
	var texts [2][]byte
	for i, file := range files {
		if file == os.DevNull || file == "/dev/null" {
			continue
		}
		data, err := readText(file, nil)
		if err != nil {
			return "", false
		}
		texts[i] = data
	}
	if texts[0] != nil && bytes.Equal(texts[0], texts[1]) {
		return "", true
	}
	// A file that is new or gone is compared with an empty workflow of its format.
	for i := range texts {
		if texts[i] == nil {
			texts[i] = []byte("{}")
			if ui.Is(texts[1-i]) {
				texts[i] = []byte(`{"nodes": [], "links": []}`)
			}
		}
	}
	d, err := f.compare(cmd, texts, files)
	if err != nil {
		return "", false
	}
	if s := d.Text(color); s != "" {
		return s, true
	}
	return "no difference but in how the file is written\n", true
}

// gitMergeCommand is the merge driver: %O %A %B %P. It leaves the result in %A; any exit code but 0 makes Git call the file
// conflicted.
func gitMergeCommand() *cobra.Command {
	var flags mergeFlags
	cmd := &cobra.Command{
		Use:   "merge-driver BASE OURS THEIRS PATH",
		Short: "Merge a file of a repository",
		Args:  cobra.ExactArgs(4),
		RunE:  flags.gitMerge,
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	return cmd
}

func (f *mergeFlags) gitMerge(cmd *cobra.Command, args []string) error {
	var texts [3][]byte
	for i, file := range args[:3] {
		data, err := readText(file, nil)
		if err != nil {
			return fmt.Errorf("read file: %w", err)
		}
		texts[i] = data
	}
	if _, err := workflows.Format(texts[1]); err != nil {
		return mergeLines(cmd, args)
	}
	r, err := f.merge(cmd, texts)
	if err != nil {
		// Ours is a workflow and stays as it is: no mixture of it and something else is sound.
		return fmt.Errorf("merge %s: %w", args[3], err)
	}
	if err := os.WriteFile(args[1], r.Data, 0o644); err != nil {
		return fmt.Errorf("write workflow: %w", err)
	}
	if info, err := os.Stat(filepath.Dir(args[3])); err == nil && info.IsDir() {
		if err := writeConflicts(args[3], args[3], r); err != nil {
			return fmt.Errorf("write conflicts: %w", err)
		}
	}
	if err := tellMerge(cmd.ErrOrStderr(), r); err != nil {
		return err
	}
	return conflictError(args[3], r)
}

// mergeLines merges what is no workflow as Git does it.
func mergeLines(cmd *cobra.Command, args []string) error {
	_, err := git(cmd.Context(), "", "merge-file", "-L", "ours", "-L", "base", "-L", "theirs", args[1], args[0], args[2])
	if gitCode(err) > 0 {
		return fmt.Errorf("%s is no workflow: merged by lines: %w", args[3], errConflict)
	}
	return err
}

// gitPreCommitCommand is what the hook calls.
func gitPreCommitCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pre-commit",
		Short: "Check the workflows that are about to be committed",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := stagedWorkflows(cmd)
			if err != nil {
				return err
			}
			return checkStaged(cmd, files)
		},
	}
}

// staged is a file of the index.
type staged struct {
	path string
	data []byte
}

// stagedWorkflows are the files of the next commit that Git gives to comfyrun and that are workflows.
func stagedWorkflows(cmd *cobra.Command) ([]staged, error) {
	out, err := git(cmd.Context(), "", "diff", "--cached", "--name-only", "--diff-filter=ACMR", "-z")
	if err != nil {
		return nil, err
	}
	var files []staged
	for _, path := range strings.Split(strings.TrimRight(string(out), "\x00"), "\x00") {
		if path == "" {
			continue
		}
		attribute, err := git(cmd.Context(), "", "check-attr", "-z", "filter", "--", path)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(strings.Split(string(attribute), "\x00"), "comfyrun") {
			continue
		}
		data, err := git(cmd.Context(), "", "cat-file", "blob", ":"+path)
		if err != nil {
			return nil, err
		}
		files = append(files, staged{path, data})
	}
	return files, nil
}

// checkStaged checks files as they are in the index: their layout, then what comfyrun check finds. What is no workflow is
// none of its business.
func checkStaged(cmd *cobra.Command, files []staged) error {
	dir, err := os.MkdirTemp("", "comfyrun-commit")
	if err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	defer os.RemoveAll(dir)
	var unformatted, paths []string
	for _, f := range files {
		formatted, err := workflows.Format(f.data)
		if err != nil {
			continue
		}
		if !bytes.Equal(formatted, f.data) {
			unformatted = append(unformatted, f.path)
		}
		path := filepath.Join(dir, filepath.FromSlash(f.path))
		if err = os.MkdirAll(filepath.Dir(path), 0o755); err == nil {
			err = os.WriteFile(path, f.data, 0o644)
		}
		if err != nil {
			return fmt.Errorf("write file: %w", err)
		}
		paths = append(paths, f.path)
	}
	if len(unformatted) > 0 {
		fmt.Fprintln(cmd.ErrOrStderr(), strings.Join(unformatted, "\n"))
		return fmt.Errorf("check format: %d of %d files: %w", len(unformatted), len(paths), errUnformatted)
	}
	if len(paths) == 0 {
		return nil
	}
	return runCheck(cmd, dir, paths)
}

// runCheck runs comfyrun check on files below a folder, with the models.lock of this one.
func runCheck(cmd *cobra.Command, dir string, paths []string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	lock := ""
	if _, err := os.Stat(defaultLock); err == nil {
		if lock, err = filepath.Abs(defaultLock); err != nil {
			return fmt.Errorf("find models.lock: %w", err)
		}
	}
	var said bytes.Buffer
	run := exec.CommandContext(cmd.Context(), self, append([]string{"check", "--lock", lock, "--"}, paths...)...)
	run.Dir, run.Stdout, run.Stderr = dir, cmd.ErrOrStderr(), &said
	if err := run.Run(); err != nil {
		return fmt.Errorf("%s", strings.TrimPrefix(strings.TrimSpace(said.String()), "comfyrun: "))
	}
	return nil
}
