package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/arch"
	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/weights"
	"github.com/comfyrun/comfyrun/workflows"
)

func TestReport(t *testing.T) {
	missing := &models.MissingError{Folder: "vae", Name: "x"}
	for _, tt := range []struct {
		err  error
		code int
	}{
		{nil, exitDone},
		{errors.New("anything"), exitFailed},
		{usagef("no such thing"), exitUsage},
		{fmt.Errorf("load: %w", missing), exitModel},
		{fmt.Errorf("ensure: %w", models.ErrDigest), exitModel},
		{fmt.Errorf("sample: %w", context.Canceled), exitInterrupted},
		{asUsage(fmt.Errorf("check: %w", missing)), exitModel},
		{fmt.Errorf("open weights x: %w: truncated", weights.ErrFormat), exitModel},
		{fmt.Errorf("load: %w", &arch.UnsupportedError{Seems: "Flux"}), exitModel},
		{fmt.Errorf("read w.json: %w", &workflows.SyntaxError{}), exitUsage},
		{workflows.ErrUIFormat, exitUsage},
		{&engine.InvalidError{Kind: engine.OutputsFailed}, exitUsage},
		{&engine.InvalidError{Kind: engine.OutputsFailed, Errors: []*engine.NodeError{{Err: missing}}}, exitModel},
	} {
		var out strings.Builder
		want := ""
		if tt.err != nil {
			want = "comfyrun: " + tt.err.Error() + "\n"
		}
		if code := report(&out, tt.err); code != tt.code || out.String() != want {
			t.Errorf("report(%v) = %d, %q; want %d, %q", tt.err, code, out.String(), tt.code, want)
		}
	}
}

// flagValues runs a command with flags of every sort under the root's rules and returns what they were set to.
func flagValues(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var set []string
	child := &cobra.Command{Use: "child", RunE: func(cmd *cobra.Command, _ []string) error {
		cmd.LocalNonPersistentFlags().VisitAll(func(f *pflag.Flag) { set = append(set, f.Name+"="+f.Value.String()) })
		return nil
	}}
	flags := child.Flags()
	flags.Int("steps", 1, "")
	flags.Bool("json", false, "")
	flags.StringArray("set", nil, "")
	flags.Var(new(pathsFlag), "models-dir", "")
	root := rootCommand()
	root.AddCommand(child)
	root.SetArgs(append([]string{"child"}, args...))
	err := root.ExecuteContext(t.Context())
	return strings.Join(set, " "), err
}

func TestFlagsFromEnvironment(t *testing.T) {
	run := func(args ...string) string {
		t.Helper()
		got, err := flagValues(t, args...)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if diff := cmp.Diff("help=false json=false models-dir= set=[] steps=1", run()); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	t.Setenv("COMFYRUN_STEPS", "7")
	t.Setenv("COMFYRUN_JSON", "true")
	t.Setenv("COMFYRUN_SET", "a=b, c\nd=e:f\n")
	t.Setenv("COMFYRUN_MODELS_DIR", "/a:/b")
	t.Setenv("COMFYRUN_HELP", "true")
	if diff := cmp.Diff("help=false json=true models-dir=/a:/b set=[\"a=b, c\",d=e:f] steps=7", run()); diff != "" {
		t.Errorf("from variables (-want +got):\n%s", diff)
	}
	want := "help=false json=false models-dir=/c:/d:/e set=[x=y] steps=3"
	if diff := cmp.Diff(want, run("--steps=3", "--json=false", "--set", "x=y", "--models-dir=/c:/d", "--models-dir=/e")); diff != "" {
		t.Errorf("the command line should win (-want +got):\n%s", diff)
	}
	t.Setenv("COMFYRUN_STEPS", "many")
	_, err := flagValues(t)
	if err == nil || !as[usageError](err) || !strings.Contains(err.Error(), "COMFYRUN_STEPS") {
		t.Errorf("error of a bad variable is %v, want a usage error that names it", err)
	}
}

func TestHome(t *testing.T) {
	for _, tt := range []struct{ name, flag, variable, xdg, want string }{
		{"flag wins", "/flag", "/variable", "/xdg", "/flag"},
		{"variable", "", "/variable", "/xdg", "/variable"},
		{"XDG", "", "", "/xdg", "/xdg/comfyrun"},
		{"XDG must be absolute", "", "", "xdg", "/me/.local/share/comfyrun"},
		{"user", "", "", "", "/me/.local/share/comfyrun"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("COMFYRUN_HOME", tt.variable)
			t.Setenv("XDG_DATA_HOME", tt.xdg)
			t.Setenv("HOME", "/me")
			var got Home
			root := rootCommand()
			root.AddCommand(&cobra.Command{Use: "child", RunE: func(cmd *cobra.Command, _ []string) (err error) {
				got, err = homeOf(cmd)
				return err
			}})
			root.SetArgs([]string{"child", "--home=" + tt.flag})
			if tt.flag == "" {
				root.SetArgs([]string{"child"})
			}
			if err := root.ExecuteContext(t.Context()); err != nil || string(got) != tt.want {
				t.Errorf("home is %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}

func TestExpandPath(t *testing.T) {
	t.Setenv("HOME", "/me")
	t.Setenv("WHERE", "/there")
	for path, want := range map[string]string{
		"~": "/me", "~/x": "/me/x", "~other/x": "~other/x", "$WHERE/x": "/there/x", "${WHERE}": "/there", "/a~": "/a~",
	} {
		if got := expandPath(path); got != want {
			t.Errorf("expandPath(%q) = %q, want %q", path, got, want)
		}
	}
}

func TestCommandsAreSorted(t *testing.T) {
	var names []string
	for _, cmd := range commands() {
		names = append(names, cmd.Name())
		if cmd.Short == "" {
			t.Errorf("command %s has no short help", cmd.Name())
		}
	}
	if !slices.IsSorted(names) {
		t.Errorf("commands are %v, want them sorted", names)
	}
}
