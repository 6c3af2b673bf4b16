package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/comfyrun/comfyrun/engine/check"
	"github.com/comfyrun/comfyrun/engine/models"
)

// checkFlags are the flags of check.
type checkFlags struct {
	models  modelFlags
	nodes   nodeFlags
	lock    string
	policy  string
	catalog string
	input   string
	format  string
	sarif   string
	json    bool
	strict  bool
}

const checkHelp = `Check finds what is wrong with workflows without running them: structure, node types, links, types, ranges, choices,
cycles, model files, a policy. Files are in either format, or pictures that carry a workflow; of a DIR all workflows below it
that are JSON are checked. A FILE of - is the standard input. Neither ONNX Runtime nor a model is needed; docs/check.md tells more.

Model files must be pinned in models.lock, if there is one (--lock '' leaves it aside), or lie in the folders of --models. With
neither they are not checked. Pictures that workflows load are looked for with --input only.

Each finding is a line FILE:LINE:COLUMN: SEVERITY: TEXT (KIND). Exit codes: 0 no errors, 2 invalid workflow, 3 only models missing.`

func checkCommand() *cobra.Command {
	var flags checkFlags
	cmd := &cobra.Command{
		Use:     "check FILE|DIR…",
		Short:   "Find what is wrong with workflows, without running them",
		Long:    checkHelp,
		Example: "  comfyrun check workflows\n  comfyrun check --format github --sarif check.sarif workflows",
		Args:    cobra.MinimumNArgs(1),
		RunE:    flags.run,
	}
	flags.models.add(cmd)
	flags.nodes.add(cmd)
	addLockFlag(cmd, &flags.lock)
	f := cmd.Flags()
	f.StringVar(&flags.policy, "policy", "", "TOML file of what workflows may do: node types, models, sizes, steps")
	f.StringVar(&flags.catalog, "catalog", "", "JSON file of node types to check against instead of the built-in ones, as GET /object_info gives them")
	f.StringVar(&flags.input, "input", "", "folder of the pictures that workflows load")
	f.StringVar(&flags.format, "format", "text", "how findings are written: text, json, sarif or github")
	f.BoolVar(&flags.json, "json", false, "the same as --format json: one JSON object per finding")
	f.StringVar(&flags.sarif, "sarif", "", "file to write findings to as SARIF, too")
	f.BoolVar(&flags.strict, "strict", false, "count warnings as errors")
	cmd.MarkFlagsMutuallyExclusive("format", "json")
	cmd.MarkFlagsMutuallyExclusive("catalog", "nodes")
	return cmd
}

// checkWriters writes findings by the name of the format.
var checkWriters = map[string]func(io.Writer, []check.Finding) error{
	"text": check.WriteText, "json": check.WriteJSON, "github": check.WriteGitHub,
	"sarif": func(w io.Writer, findings []check.Finding) error {
		return check.WriteSARIF(w, findings, engineVersion())
	},
}

func (f *checkFlags) run(cmd *cobra.Command, args []string) error {
	if f.json {
		f.format = "json"
	}
	write, ok := checkWriters[f.format]
	if !ok {
		return usagef("read --format: %q is none of text, json, sarif and github", f.format)
	}
	files, err := workflowFiles(args)
	if err != nil {
		return err
	}
	checker, err := f.checker(cmd)
	if err != nil {
		return err
	}
	findings, err := checkFiles(checker, files, cmd.InOrStdin())
	if err != nil {
		return err
	}
	if f.strict {
		check.Strict(findings)
	}
	if err := write(cmd.OutOrStdout(), findings); err != nil {
		return fmt.Errorf("write findings: %w", err)
	}
	if f.sarif != "" {
		if err := writeSARIF(f.sarif, findings); err != nil {
			return fmt.Errorf("write --sarif: %w", err)
		}
	}
	return verdict(len(files), findings)
}

func writeSARIF(file string, findings []check.Finding) error {
	var b strings.Builder
	if err := check.WriteSARIF(&b, findings, engineVersion()); err != nil {
		return err
	}
	return writeFile(file, []byte(b.String()))
}

// verdict is the error of findings: nil without errors, one of exit code 3 where only models are missing.
func verdict(files int, findings []check.Finding) error {
	errs, missing, wrong := 0, 0, map[string]bool{}
	for _, f := range findings {
		if f.Severity != check.Error {
			continue
		}
		errs++
		wrong[f.File] = true
		if f.Kind == check.ModelMissing || f.Kind == check.ModelNotPinned {
			missing++
		}
	}
	switch {
	case errs == 0:
		return nil
	case errs == missing:
		return fmt.Errorf("check: %w: %s", models.ErrMissing, tally(errs, len(wrong), files))
	}
	return usagef("check: not valid: %s", tally(errs, len(wrong), files))
}

func tally(errs, wrong, files int) string {
	return fmt.Sprintf("%s in %d of %s", counted(errs, "error"), wrong, counted(files, "file"))
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// workflowFile is a file to check. One that was found in a folder is passed over where it holds no workflow.
type workflowFile struct {
	name  string
	found bool
}

// workflowFiles lists the files that the arguments name, those of folders in the order of their names.
func workflowFiles(args []string) ([]workflowFile, error) {
	var files []workflowFile
	for i, arg := range args {
		if arg == "-" {
			if slices.Contains(args[:i], "-") {
				return nil, usagef("read workflow: - is given twice")
			}
			files = append(files, workflowFile{name: arg})
			continue
		}
		info, err := os.Stat(arg)
		if err != nil {
			return nil, usagef("read workflow: %w", err)
		}
		if !info.IsDir() {
			files = append(files, workflowFile{name: arg})
			continue
		}
		inside, err := jsonFiles(arg)
		if err != nil {
			return nil, usagef("read workflows: %w", err)
		}
		for _, name := range inside {
			files = append(files, workflowFile{name, true})
		}
	}
	return files, nil
}

// jsonFiles lists the JSON files below a folder, without hidden folders.
func jsonFiles(dir string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch hidden := strings.HasPrefix(d.Name(), ".") && path != dir; {
		case err != nil:
			return err
		case d.IsDir() && hidden:
			return filepath.SkipDir
		case d.IsDir() || hidden || !strings.EqualFold(filepath.Ext(path), ".json"):
			return nil
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			files = append(files, path)
		}
		return nil
	})
	return files, err
}

// checkFiles checks files beside each other. The findings are in the order of the files.
func checkFiles(checker *check.Checker, files []workflowFile, stdin io.Reader) ([]check.Finding, error) {
	found := make([][]check.Finding, len(files))
	passed := make([]bool, len(files))
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for i, file := range files {
		group.Go(func() error {
			data, err := readSource(file.name, stdin)
			if err != nil {
				return usagef("read workflow: %w", err)
			}
			if passed[i] = file.found && !check.IsWorkflow(data); !passed[i] {
				found[i] = checker.Check(label(file.name), data)
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	if !slices.Contains(passed, false) {
		return nil, usagef("check: no workflow is there")
	}
	return slices.Concat(found...), nil
}

func label(name string) string {
	if name == "-" {
		return "stdin"
	}
	return name
}

var errTooLarge = errors.New("too large to be read for its workflow")

func readSource(name string, stdin io.Reader) (data []byte, err error) {
	if name == "-" {
		data, err = io.ReadAll(io.LimitReader(stdin, maxSource+1))
	} else {
		data, err = readLimited(name)
	}
	if err == nil && len(data) > maxSource {
		err = fmt.Errorf("%s: %w", name, errTooLarge)
	}
	return data, err
}
