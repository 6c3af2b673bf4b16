package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// This file is the only one that reads the environment.

// bindFlags gives every long flag that the command line left out the value of its variable, then makes the checks of
// required and exclusive flags that cobra would make later under another kind of error.
func bindFlags(cmd *cobra.Command) error {
	var wrong error
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		if wrong == nil && !flag.Changed && !slices.Contains([]string{"help", "version"}, flag.Name) {
			wrong = setFromEnvironment(cmd.Flags(), flag)
		}
	})
	if wrong != nil {
		return wrong
	}
	if err := cmd.ValidateRequiredFlags(); err != nil {
		return err
	}
	return cmd.ValidateFlagGroups()
}

// setFromEnvironment sets one flag. An empty variable counts as unset. A flag that may be repeated takes one value per
// line, so that no character of a value needs escaping.
func setFromEnvironment(flags *pflag.FlagSet, flag *pflag.Flag) error {
	name := variable(flag.Name)
	text := os.Getenv(name)
	if text == "" {
		return nil
	}
	values := []string{text}
	if _, repeated := flag.Value.(pflag.SliceValue); repeated {
		values = strings.Split(strings.Trim(text, "\n"), "\n")
	}
	for _, value := range values {
		if err := flags.Set(flag.Name, value); err != nil {
			return fmt.Errorf("read variable %s: %w", name, err)
		}
	}
	return nil
}

// variable is the name of a flag's environment variable: --out-dir is COMFYRUN_OUT_DIR.
func variable(flag string) string {
	return "COMFYRUN_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// pathsFlag is the value of a flag that takes folders: repeated, or several in one value joined as in PATH.
type pathsFlag []string

func (p *pathsFlag) String() string { return strings.Join(*p, string(filepath.ListSeparator)) }
func (p *pathsFlag) Type() string   { return "folders" }
func (p *pathsFlag) Set(value string) error {
	*p = append(*p, filepath.SplitList(value)...)
	return nil
}

// expandPath replaces variables and a leading ~ in a path, as ComfyUI does in the base_path of its YAML file.
func expandPath(path string) string {
	path = os.ExpandEnv(path)
	if rest, ok := strings.CutPrefix(path, "~"); ok && (rest == "" || rest[0] == '/') {
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, rest)
		}
	}
	return path
}

// defaultHome is where comfyrun keeps its files when --home does not say: the XDG data folder's comfyrun, or a folder
// below the working one for a user without a home.
func defaultHome() string {
	if data := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(data) {
		return filepath.Join(data, "comfyrun")
	}
	if home, err := os.UserHomeDir(); err == nil && home != "/" {
		return filepath.Join(home, ".local", "share", "comfyrun")
	}
	return ".comfyrun"
}

// hubToken is the token that Hugging Face's own programs use.
func hubToken() string { return os.Getenv("HF_TOKEN") }
