package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
)

const verifyHelp = `Verify reads the files that models.lock pins and compares them with their digests, whatever was remembered of them. With
--sample N only N pieces of 16 MiB of each file are read, chosen at random, where the list of pieces is known.
--remove takes wrong files out of the store, so that they can be fetched again.`

func modelsVerifyCommand() *cobra.Command {
	var flags storeFlags
	var sample int
	var remove bool
	cmd := &cobra.Command{
		Use:   "verify [FOLDER/NAME…]",
		Short: "Compare model files with models.lock",
		Long:  verifyHelp,
		RunE: func(cmd *cobra.Command, args []string) error {
			if sample < 0 {
				return usagef("read --sample: %d is below 0", sample)
			}
			c, err := flags.open(cmd, true)
			if err != nil {
				return err
			}
			entries, err := c.chosen(args)
			if err != nil {
				return err
			}
			return c.verify(cmd, entries, sample, remove)
		},
	}
	flags.add(cmd)
	cmd.Flags().IntVar(&sample, "sample", 0, "pieces to read of each file (default all)")
	cmd.Flags().BoolVar(&remove, "remove", false, "remove wrong files from the store")
	return cmd
}

// verify tells of each entry how it is. The error has all that are wrong or missing.
func (c *storeContext) verify(cmd *cobra.Command, entries []models.Entry, sample int, remove bool) error {
	var failed []error
	for _, e := range entries {
		err := c.verifyOne(cmd.Context(), e, sample)
		if cmd.Context().Err() != nil {
			return cmd.Context().Err()
		}
		state := "ok"
		if err != nil {
			state = "missing"
			failed = append(failed, fmt.Errorf("verify %s: %w", e, err))
		}
		if errors.Is(err, models.ErrDigest) {
			state = "wrong"
			if remove {
				if err := c.store().Remove(cmd.Context(), e); err != nil {
					return err
				}
			}
		}
		fmt.Fprintf(cmd.OutOrStdout(), "%-8s%s\n", state, e.Name)
	}
	return errors.Join(failed...)
}

// verifyOne reads the file that a workflow would be given.
func (c *storeContext) verifyOne(ctx context.Context, e models.Entry, sample int) error {
	folder, name := e.Split()
	file, err := c.folders.Path(folder, name)
	if err != nil {
		if _, err := os.Lstat(c.store().Blob(e)); err == nil {
			file = c.store().Blob(e)
		} else {
			return fmt.Errorf("%w: %s", models.ErrMissing, e.Name)
		}
	}
	list, _ := c.store().Pieces(e)
	return models.Check{File: file, Entry: e, Pieces: list, Sample: sample}.Verify(ctx)
}

const gcHelp = `Gc removes files from home's store: those that were not used for longer than --unused, and the least recently used ones
until the rest fits into --max-size. What models.lock pins stays, unless --pinned. Files of other folders are never removed.`

func modelsGCCommand() *cobra.Command {
	var flags storeFlags
	var size sizeFlag
	var unused time.Duration
	var pinned, dryRun bool
	cmd := &cobra.Command{
		Use:   "gc",
		Short: "Remove files that are not used from the store",
		Long:  gcHelp,
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if size == 0 && unused <= 0 {
				return usagef("gc: say what to remove, with --unused or --max-size")
			}
			c, err := flags.open(cmd, false)
			if err != nil {
				return err
			}
			options := models.GC{Unused: unused, Bytes: int64(size), Dry: dryRun}
			if !pinned {
				options.Keep = c.lock.Models
			}
			removed, err := c.store().GC(cmd.Context(), options)
			printRemoved(cmd, removed)
			return err
		},
	}
	flags.add(cmd)
	cmd.Flags().Var(&size, "max-size", "most bytes that the store may keep, such as 200GB")
	cmd.Flags().DurationVar(&unused, "unused", 0, "remove what was not used for this long, such as 720h")
	cmd.Flags().BoolVar(&pinned, "pinned", false, "remove pinned files too")
	cmd.Flags().BoolVarP(&dryRun, "dry-run", "n", false, "print what would be removed")
	return cmd
}

func printRemoved(cmd *cobra.Command, removed []models.Blob) {
	for _, b := range removed {
		fmt.Fprintf(cmd.OutOrStdout(), "%s %s last used %s %v\n", b.Digest, sizeText(b.Size), b.Used.Format(time.DateOnly), b.Names)
	}
}
