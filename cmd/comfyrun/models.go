package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/demo"
	"github.com/comfyrun/comfyrun/engine/weights"
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

const modelsHelp = `Models pins, fetches, checks and keeps model files.

models.lock lists the files that a project depends on: name, size, sha256, licence, and where each may be fetched. It belongs
into version control. Home's store keeps files by content, so that what two projects share is there once.`

func modelsCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "models", Short: "Pin, fetch, check and list model files", Long: modelsHelp}
	cmd.AddCommand(modelsFetchCommand(), modelsGCCommand(), modelsListCommand(), modelsLockCommand(), modelsPushCommand(), modelsVerifyCommand())
	return cmd
}

// storeFlags are what the commands on the lock and the store have in common.
type storeFlags struct {
	models modelFlags
	lock   string
}

func (f *storeFlags) add(cmd *cobra.Command) {
	f.models.add(cmd)
	addLockFlag(cmd, &f.lock)
}

const defaultLock = "models.lock"

func addLockFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "lock", defaultLock, "file that pins model files")
}

// storeContext is what those commands work with.
type storeContext struct {
	home    Home
	flags   *modelFlags
	folders *models.Folders
	lock    *models.Lock
	digests *weights.Digests
}

// open reads what the flags name. Without the file of the default name there is an empty lock, unless it is needed.
func (f *storeFlags) open(cmd *cobra.Command, needLock bool) (*storeContext, error) {
	home, err := homeOf(cmd)
	if err != nil {
		return nil, err
	}
	folders, err := f.models.folders(home)
	if err != nil {
		return nil, err
	}
	lock, err := readLock(f.lock, needLock)
	if err != nil {
		return nil, err
	}
	return &storeContext{home, &f.models, folders, lock, &weights.Digests{Dir: filepath.Join(home.Weights(), "digests")}}, nil
}

func readLock(file string, needed bool) (*models.Lock, error) {
	lock, err := models.ReadLock(file)
	if errors.Is(err, os.ErrNotExist) && !needed && file == defaultLock {
		return &models.Lock{}, nil
	}
	return lock, asUsage(err)
}

func (c *storeContext) store() *models.Store { return &models.Store{Dir: string(c.home)} }

// chosen returns the entries with the names given, all without any.
func (c *storeContext) chosen(names []string) ([]models.Entry, error) {
	if len(names) == 0 {
		return c.lock.Models, nil
	}
	var entries []models.Entry
	for _, name := range names {
		e, ok := c.lock.Find(name)
		if !ok {
			return nil, fmt.Errorf("%w: models.lock pins no %q", models.ErrMissing, name)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
