package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

// commands lists every subcommand, sorted by name.
func commands() []*cobra.Command {
	return []*cobra.Command{
		bisectCommand(),
		bundleCommand(),
		checkCommand(),
		convertCommand(),
		diffCommand(),
		driftCommand(),
		execCommand(),
		fmtCommand(),
		gitCommand(),
		inputsCommand(),
		mergeCommand(),
		modelsCommand(),
		nodesCommand(),
		replayCommand(),
		runtimeCommand(),
		serveCommand(),
		testCommand(),
		tokenCommand(),
		workerCommand(),
	}
}

const rootHelp = `comfyrun runs ComfyUI workflows and gives the pictures ComfyUI would have given.

Every long flag can be set by a variable: COMFYRUN_ and the flag's name in capitals, with _ for -
(--home is COMFYRUN_HOME). The command line wins. A flag that may be repeated takes one value per line.

Exit codes: 0 done, 1 a run failed, 2 wrong usage or invalid workflow, 3 model missing or wrong, 130 interrupted.`

// rootCommand builds the command tree anew: no state outlives a run.
func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:               "comfyrun",
		Short:             "Run ComfyUI workflows",
		Long:              rootHelp,
		Version:           version,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return asUsage(bindFlags(cmd)) },
	}
	root.SetVersionTemplate("comfyrun {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return asUsage(err) })
	addHomeFlag(root)
	root.AddCommand(commands()...)
	root.InitDefaultHelpCmd()
	root.InitDefaultCompletionCmd()
	markUsageErrors(root)
	return root
}

// markUsageErrors makes wrong arguments of any command a usageError, as wrong flags already are. A command that only
// groups others shows its help when called bare and refuses a name that it does not have.
func markUsageErrors(cmd *cobra.Command) {
	check := cmd.Args
	if cmd.HasSubCommands() && !cmd.Runnable() {
		check = knownSubcommand
		cmd.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	}
	if check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error { return asUsage(check(cmd, args)) }
	}
	for _, child := range cmd.Commands() {
		markUsageErrors(child)
	}
}

func knownSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	near := ""
	cmd.SuggestionsMinimumDistance = 2 // letters that may differ
	if found := cmd.SuggestionsFor(args[0]); len(found) > 0 {
		near = fmt.Sprintf("; did you mean %q?", found[0])
	}
	return fmt.Errorf("unknown command %q for %q%s", args[0], cmd.CommandPath(), near)
}

// usageError marks a command line that cannot be understood.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usagef makes a usageError; for what cobra cannot check itself, such as a value out of its range.
func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

func asUsage(err error) error {
	if err == nil {
		return nil
	}
	return usageError{err}
}
