package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

// installFlags are the flags of git install and git uninstall.
type installFlags struct {
	global, dryRun, preCommit bool
	patterns                  []string
	out                       io.Writer
	changes                   int
}

// defaultPatterns are the files that are taken for workflows.
var defaultPatterns = []string{"*.workflow.json", "workflows/**/*.json"}

// gitDrivers is what attributes give a file.
const gitDrivers = "diff=comfyrun merge=comfyrun filter=comfyrun"

const installHelp = `Install sets Git up in this repository, or with --global for all of yours: git diff and git log -p tell of nodes and values,
git merge and git rebase merge them, and files are formatted on their way into the repository.

It writes the sections comfyrun of diff, merge and filter into Git's configuration and a line for each --pattern into
.gitattributes, which is worth committing; each of your colleagues runs install once. Files that match a pattern and are no
workflow are left as they are. What is set already stays; -n only tells what would change.

--pre-commit adds a hook that refuses to commit workflows that are not formatted or that comfyrun check finds errors in.`

func gitInstallCommand() *cobra.Command {
	var flags installFlags
	cmd := &cobra.Command{
		Use:     "install",
		Short:   "Make Git compare, merge and format workflows",
		Long:    installHelp,
		Example: "  comfyrun git install --pattern 'flows/*.json'",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags.out = cmd.OutOrStdout()
			return flags.install(cmd.Context())
		},
	}
	flags.add(cmd)
	cmd.Flags().BoolVar(&flags.preCommit, "pre-commit", false, "add a hook that checks workflows before each commit")
	cmd.Flags().StringArrayVar(&flags.patterns, "pattern", defaultPatterns, "pattern of files, as in .gitattributes; may be repeated")
	return cmd
}

func gitUninstallCommand() *cobra.Command {
	var flags installFlags
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take back what git install did",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			flags.out = cmd.OutOrStdout()
			return flags.uninstall(cmd.Context())
		},
	}
	flags.add(cmd)
	return cmd
}

func (f *installFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.global, "global", false, "for all repositories of this user")
	cmd.Flags().BoolVarP(&f.dryRun, "dry-run", "n", false, "only tell what would change")
}

// gitSettings are the configuration, given the program as a shell calls it.
func gitSettings(program string) [][2]string {
	return [][2]string{
		{"diff.comfyrun.command", program + " git diff-driver"},
		{"diff.comfyrun.textconv", program + " git textconv"},
		{"merge.comfyrun.name", "workflows by node"},
		{"merge.comfyrun.driver", program + " git merge-driver %O %A %B %P"},
		{"filter.comfyrun.clean", program + " git clean %f"},
	}
}

// programForShell is how Git finds this program: by name where that is on the search path, else by its place.
func programForShell() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	if found, err := exec.LookPath("comfyrun"); err == nil {
		a, errA := os.Stat(found)
		b, errB := os.Stat(self)
		if errA == nil && errB == nil && os.SameFile(a, b) {
			return "comfyrun", nil
		}
	}
	return "'" + strings.ReplaceAll(self, "'", `'\''`) + "'", nil
}

// scope is the flag of git config.
func (f *installFlags) scope() string {
	if f.global {
		return "--global"
	}
	return "--local"
}

func (f *installFlags) install(ctx context.Context) error {
	for _, p := range f.patterns {
		if strings.ContainsAny(p, " \t\n\"#") || p == "" || p[0] == '!' || p[0] == '-' {
			return usagef("git install: --pattern %q has what .gitattributes would take for something else", p)
		}
	}
	if f.global && f.preCommit {
		return usagef("git install: --pre-commit is for one repository, not for --global")
	}
	attributes, err := f.attributesFile(ctx)
	if err != nil {
		return err
	}
	program, err := programForShell()
	if err != nil {
		return err
	}
	for _, s := range gitSettings(program) {
		if err := f.set(ctx, s[0], s[1]); err != nil {
			return err
		}
	}
	var lines []string
	for _, p := range f.patterns {
		lines = append(lines, p+" "+gitDrivers)
	}
	if err := f.addLines(attributes, lines); err != nil {
		return err
	}
	if !f.global {
		exclude, err := f.gitPath(ctx, "info/exclude")
		if err != nil {
			return err
		}
		if err := f.addLines(exclude, []string{"*" + conflictsSuffix}); err != nil {
			return err
		}
	}
	if f.preCommit {
		if err := f.addHook(ctx, program); err != nil {
			return err
		}
	}
	return f.done()
}

func (f *installFlags) done() error {
	if f.changes == 0 {
		return f.tell("nothing to change")
	}
	return nil
}

func (f *installFlags) tell(format string, args ...any) error {
	if _, err := fmt.Fprintf(f.out, format+"\n", args...); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}

// set sets a variable of the configuration.
func (f *installFlags) set(ctx context.Context, key, value string) error {
	old, err := git(ctx, "", "config", f.scope(), "--get", key)
	if err == nil && strings.TrimSuffix(string(old), "\n") == value {
		return nil
	}
	f.changes++
	if err := f.tell("set %s = %s", key, value); err != nil || f.dryRun {
		return err
	}
	_, err = git(ctx, "", "config", f.scope(), key, value)
	return err
}

// attributesFile is where attributes stand.
func (f *installFlags) attributesFile(ctx context.Context) (string, error) {
	if !f.global {
		top, err := git(ctx, "", "rev-parse", "--show-toplevel")
		if err != nil {
			return "", usagef("find the repository: %w", err)
		}
		return filepath.Join(strings.TrimSuffix(string(top), "\n"), ".gitattributes"), nil
	}
	if path, err := git(ctx, "", "config", "--global", "--type=path", "--get", "core.attributesFile"); err == nil {
		return strings.TrimSuffix(string(path), "\n"), nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the folder of Git's configuration: %w", err)
	}
	return filepath.Join(dir, "git", "attributes"), nil
}

// gitPath is a file of the repository's own folder.
func (f *installFlags) gitPath(ctx context.Context, name string) (string, error) {
	path, err := git(ctx, "", "rev-parse", "--git-path", name)
	if err != nil {
		return "", usagef("find the repository: %w", err)
	}
	return filepath.Abs(strings.TrimSuffix(string(path), "\n"))
}

// readLines reads a file by lines; one that is not there has none.
func readLines(path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("read file: %w", err)
	}
	text := strings.TrimSuffix(string(data), "\n")
	if text == "" {
		return nil, nil
	}
	return strings.Split(text, "\n"), nil
}

// addLines adds the lines that a file lacks at its end.
func (f *installFlags) addLines(path string, wanted []string) error {
	lines, err := readLines(path)
	if err != nil {
		return err
	}
	added := 0
	for _, line := range wanted {
		if slices.Contains(lines, line) {
			continue
		}
		lines = append(lines, line)
		added++
		if err := f.tell("add to %s: %s", path, line); err != nil {
			return err
		}
	}
	f.changes += added
	if added == 0 || f.dryRun {
		return nil
	}
	return writeLines(path, lines)
}

func writeLines(path string, lines []string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := writeFile(path, []byte(strings.Join(lines, "\n")+"\n")); err != nil {
		return fmt.Errorf("write file: %w", err)
	}
	return nil
}

// dropLines takes lines out of a file, and the file away if nothing is left.
func (f *installFlags) dropLines(path string, drop func(string) bool) error {
	lines, err := readLines(path)
	if err != nil {
		return err
	}
	var kept []string
	for _, line := range lines {
		if !drop(line) {
			kept = append(kept, line)
			continue
		}
		f.changes++
		if err := f.tell("take out of %s: %s", path, line); err != nil {
			return err
		}
	}
	if f.dryRun || len(kept) == len(lines) {
		return nil
	}
	if len(kept) > 0 {
		return writeLines(path, kept)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("remove file: %w", err)
	}
	return nil
}

// hookMark is the line by which uninstall knows the hook.
const hookMark = "# Written by comfyrun git install --pre-commit."

// addHook writes the hook; one of somebody else stays, and the error says what to add to it.
func (f *installFlags) addHook(ctx context.Context, program string) error {
	path, err := f.gitPath(ctx, "hooks/pre-commit")
	if err != nil {
		return err
	}
	text := "#!/bin/sh\n" + hookMark + "\nexec " + program + " git pre-commit\n"
	old, err := os.ReadFile(path)
	switch {
	case err == nil && string(old) == text:
		return nil
	case err == nil && !strings.Contains(string(old), hookMark):
		return usagef("add hook: %s is there already: add the line %q to it", path, program+" git pre-commit || exit 1")
	case err != nil && !errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("read hook: %w", err)
	}
	f.changes++
	if err := f.tell("write %s", path); err != nil || f.dryRun {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := writeFile(path, []byte(text)); err != nil {
		return fmt.Errorf("write hook: %w", err)
	}
	return os.Chmod(path, 0o755)
}

func (f *installFlags) uninstall(ctx context.Context) error {
	attributes, err := f.attributesFile(ctx)
	if err != nil {
		return err
	}
	for _, section := range []string{"diff.comfyrun", "merge.comfyrun", "filter.comfyrun"} {
		if _, err := git(ctx, "", "config", f.scope(), "--get-regexp", "^"+strings.ReplaceAll(section, ".", `\.`)+`\.`); err != nil {
			continue
		}
		f.changes++
		if err := f.tell("unset %s", section); err != nil {
			return err
		}
		if !f.dryRun {
			if _, err := git(ctx, "", "config", f.scope(), "--remove-section", section); err != nil {
				return err
			}
		}
	}
	if err := f.dropLines(attributes, func(line string) bool { return strings.HasSuffix(line, " "+gitDrivers) }); err != nil {
		return err
	}
	if f.global {
		return f.done()
	}
	if err := f.dropRest(ctx); err != nil {
		return err
	}
	return f.done()
}

// dropRest takes the hook away and the line that hides files of conflicts.
func (f *installFlags) dropRest(ctx context.Context) error {
	exclude, err := f.gitPath(ctx, "info/exclude")
	if err != nil {
		return err
	}
	if err := f.dropLines(exclude, func(line string) bool { return line == "*"+conflictsSuffix }); err != nil {
		return err
	}
	hook, err := f.gitPath(ctx, "hooks/pre-commit")
	if err != nil {
		return err
	}
	if text, err := os.ReadFile(hook); err != nil || !strings.Contains(string(text), hookMark) {
		return nil
	}
	f.changes++
	if err := f.tell("remove %s", hook); err != nil || f.dryRun {
		return err
	}
	if err := os.Remove(hook); err != nil {
		return fmt.Errorf("remove hook: %w", err)
	}
	return nil
}
