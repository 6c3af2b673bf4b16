package main

import (
	"context"
	"errors"
	"fmt"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
)

// modelFlags are the flags that say where model files are; every command that reads models has them.
type modelFlags struct {
	roots pathsFlag
	extra pathsFlag
}

func (m *modelFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var(&m.roots, "models", "ComfyUI models folder, as it is; may be repeated")
	cmd.Flags().Var(&m.extra, "extra-model-paths", "ComfyUI extra_model_paths.yaml; may be repeated")
}

// folders returns the model folders that the flags name, followed by home's own.
func (m *modelFlags) folders(home Home) (*models.Folders, error) {
	folders := models.NewFolders(append(append([]string{}, m.roots...), home.Models()))
	for _, file := range m.extra {
		if err := folders.AddYAML(file, expandPath); err != nil {
			return nil, asUsage(err)
		}
	}
	return folders, nil
}

// ensureDemo puts the demo model that the program carries into home, unless a folder has a checkpoint of its name.
func ensureDemo(ctx context.Context, home Home, folders *models.Folders) error {
	_, err := folders.Path(demo.Folder, demo.Name)
	if !errors.Is(err, models.ErrMissing) {
		return err
	}
	store := models.Store{Dir: string(home), Fetchers: map[string]models.Fetcher{"embed": demo.Source{}}}
	_, err = store.Ensure(ctx, demo.Entry())
	return err
}

func modelsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "List model files"}
	cmd.AddCommand(modelsListCommand())
	return cmd
}

func modelsListCommand() *cobra.Command {
	var flags modelFlags
	cmd := &cobra.Command{
		Use:   "ls [FOLDER]",
		Short: "List model files as workflows name them, with where they are",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			home, err := homeOf(cmd)
			if err != nil {
				return err
			}
			folders, err := flags.folders(home)
			if err != nil {
				return err
			}
			return listModels(cmd, folders, args)
		},
	}
	flags.add(cmd)
	return cmd
}

func listModels(cmd *cobra.Command, folders *models.Folders, keys []string) error {
	if len(keys) == 0 {
		keys = folders.Keys()
	} else if folders.Paths(keys[0]) == nil {
		return usagef("list models: there is no folder %q; folders are %v", keys[0], folders.Keys())
	}
	table := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 8, 2, ' ', 0)
	for _, key := range keys {
		for _, name := range folders.Names(key) {
			if path, err := folders.Path(key, name); err == nil {
				fmt.Fprintf(table, "%s\t%s\t%s\n", key, name, path)
			}
		}
	}
	return table.Flush()
}
