package main

import (
	"context"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/s3"
)

// pushFlags are the flags of models push.
type pushFlags struct {
	storeFlags
	sources sourceFlags
	to      string
	dryRun  bool
}

const pushHelp = `Push puts files that models.lock pins into a bucket, under their digests and with the lists of their pieces, and adds
the bucket to their sources in models.lock. What is there already is not sent again. A file is read and compared with its pin
before it is sent.`

func modelsPushCommand() *cobra.Command {
	var flags pushFlags
	cmd := &cobra.Command{
		Use:     "push [FOLDER/NAME…]",
		Short:   "Put pinned files into a bucket",
		Long:    pushHelp,
		Example: "  comfyrun models push --to s3://team-models/comfyrun",
		RunE:    func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args) },
	}
	flags.storeFlags.add(cmd)
	flags.sources.add(cmd)
	cmd.Flags().StringVar(&flags.to, "to", "", "s3://BUCKET/PREFIX")
	cmd.Flags().BoolVarP(&flags.dryRun, "dry-run", "n", false, "print what would be sent")
	return cmd
}

func (f *pushFlags) run(cmd *cobra.Command, args []string) error {
	if f.to == "" {
		return usagef("read --to: say where to, such as s3://bucket/folder")
	}
	c, err := f.open(cmd, true)
	if err != nil {
		return err
	}
	_, storage, err := f.sources.fetcher(c.home, c.folders, c.digests)
	if err != nil {
		return err
	}
	entries, err := c.chosen(args)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if f.dryRun {
			fmt.Fprintln(cmd.OutOrStdout(), e.Name, s3.PushURL(f.to, e.SHA256))
			continue
		}
		if e, err = f.push(cmd.Context(), c, storage, e); err != nil {
			return fmt.Errorf("push %s: %w", e, err)
		}
		c.lock.Set(e)
		fmt.Fprintln(cmd.OutOrStdout(), e.Name, s3.PushURL(f.to, e.SHA256))
	}
	if f.dryRun {
		return nil
	}
	return models.WriteLock(f.lock, c.lock)
}

// push sends one file and returns its entry with the new source.
func (f *pushFlags) push(ctx context.Context, c *storeContext, storage *s3.Storage, e models.Entry) (models.Entry, error) {
	folder, name := e.Split()
	path, err := c.folders.Path(folder, name)
	if err != nil {
		return e, err
	}
	file, err := os.Open(path)
	if err != nil {
		return e, err
	}
	defer file.Close()
	sum, err := models.HashPieces(ctx, file, nil)
	if err != nil {
		return e, err
	}
	if sum.SHA256 != e.SHA256 || e.Pieces != "" && sum.Pieces.Digest() != e.Pieces {
		return e, fmt.Errorf("%w: %s has sha256 %s, want %s", models.ErrDigest, path, sum.SHA256, e.SHA256)
	}
	if _, err := file.Seek(0, 0); err != nil {
		return e, err
	}
	source, _, err := storage.Push(ctx, f.to, file, sum)
	if err != nil {
		return e, err
	}
	e.Pieces, e.Sources = sum.Pieces.Digest(), union(e.Sources, []string{source})
	return e, c.store().PutPieces(sum.Pieces)
}
