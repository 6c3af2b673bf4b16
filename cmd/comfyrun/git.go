package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"

	"github.com/spf13/cobra"
)

const gitHelp = `Git install makes Git compare, merge and format workflows by what they mean: git diff, git log -p, git merge and git rebase
then tell of nodes and values. docs/git.md shows it. The other commands of this group are what Git calls.`

func gitCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "git",
		Short:   "Set up Git for workflows",
		Long:    gitHelp,
		Example: "  comfyrun git install --pre-commit",
	}
	cmd.AddCommand(gitInstallCommand(), gitUninstallCommand(), gitCleanCommand(), gitTextCommand(), gitDiffCommand(), gitMergeCommand(),
		gitPreCommitCommand())
	return cmd
}

// git runs Git in a folder and returns what it writes. An error has what Git said.
func git(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err := cmd.Run()
	if text := strings.TrimSpace(said.String()); err != nil && text != "" {
		first, _, _ := strings.Cut(text, "\n")
		return out.Bytes(), fmt.Errorf("git %s: %s: %w", args[0], first, err)
	}
	if err != nil {
		return out.Bytes(), fmt.Errorf("git %s: %w", args[0], err)
	}
	return out.Bytes(), nil
}

// gitCode is the exit code of Git, or -1 where it did not end by itself.
func gitCode(err error) int {
	if ended := (*exec.ExitError)(nil); errors.As(err, &ended) {
		return ended.ExitCode()
	}
	if err == nil {
		return 0
	}
	return -1
}
