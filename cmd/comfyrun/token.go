package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/web/auth"
)

const tokenHelp = `Token makes a token for clients of comfyrun serve. The token itself is printed on the standard error and kept nowhere; the line for
the file that --tokens names, with the token's hash, is printed on the standard output.`

func tokenCommand() *cobra.Command {
	var scope string
	cmd := &cobra.Command{
		Use:     "token NAME",
		Short:   "Make a token for clients of a server",
		Long:    tokenHelp,
		Example: "  comfyrun token studio --scope submit >>tokens.txt",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := auth.ParseScope(scope); err != nil {
				return usagef("read --scope: %w", err)
			}
			token, hash := auth.NewToken()
			line := fmt.Sprintf("%s %s %s\n", args[0], scope, hash)
			if _, err := auth.Parse([]byte(line)); err != nil {
				return asUsage(err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "the token of %s, shown this once: %s\n", args[0], token)
			_, err := fmt.Fprint(cmd.OutOrStdout(), line)
			return err
		},
	}
	cmd.Flags().StringVar(&scope, "scope", "submit", "what it allows: read, submit or admin")
	return cmd
}
