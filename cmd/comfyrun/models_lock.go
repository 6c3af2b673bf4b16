package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/fetch"
	"github.com/comfyrun/comfyrun/engine/models/s3"
	"github.com/comfyrun/comfyrun/workflows/ui"
)

// lockFlags are the flags of models lock.
type lockFlags struct {
	storeFlags
	sources       sourceFlags
	nodes         nodeFlags
	check, update bool
	explicit      []string
	licenses      []string
	labels        []string
	bucket        string

	// What the flags came to.
	sourceOf, labelsOf map[string][]string
	licenseOf          map[string]string
	listed             []fetch.Object
	fetcher            *fetch.Fetcher
	stdout, stderr     io.Writer
}

const lockHelp = `Lock finds the model files that workflows name and pins those that models.lock does not: size, sha256, the digest of the
list of 16 MiB pieces, licence and sources. A file is read where it is: in a model folder, at the source that --source gives, or
in the bucket of --bucket, where it lies under its name or its file name. What is pinned stays as it is, except with --update.

With --check nothing is written; the exit code is 3 when a workflow names a model that is not pinned.`

func modelsLockCommand() *cobra.Command {
	var flags lockFlags
	cmd := &cobra.Command{
		Use:   "lock WORKFLOW…",
		Short: "Pin the model files that workflows name",
		Long:  lockHelp,
		Example: "  comfyrun models lock default.json --source checkpoints/base.safetensors=https://host/base.safetensors \\\n" +
			"      --license checkpoints/base.safetensors=CreativeML-OpenRAIL-M",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return flags.run(cmd, args) },
	}
	flags.storeFlags.add(cmd)
	flags.sources.add(cmd)
	flags.nodes.add(cmd)
	f := cmd.Flags()
	f.BoolVar(&flags.check, "check", false, "write nothing, fail when a model is not pinned")
	f.BoolVar(&flags.update, "update", false, "read again what is pinned, and pin it as it is now")
	f.StringArrayVar(&flags.explicit, "source", nil, "FOLDER/NAME=URL: where a file may be fetched; may be repeated, also for one file")
	f.StringArrayVar(&flags.licenses, "license", nil, "FOLDER/NAME=LICENCE; may be repeated")
	f.StringArrayVar(&flags.labels, "label", nil, "FOLDER/NAME=LABEL such as stable; may be repeated")
	f.StringVar(&flags.bucket, "bucket", "", "s3://BUCKET/PREFIX to look for files in")
	return cmd
}

func (f *lockFlags) run(cmd *cobra.Command, args []string) error {
	if err := f.parse(); err != nil {
		return err
	}
	c, err := f.open(cmd, f.check)
	if err != nil {
		return err
	}
	named, err := c.named(cmd, &f.nodes, args)
	if err != nil {
		return err
	}
	if f.check {
		return f.report(cmd, named)
	}
	var storage *s3.Storage
	if f.fetcher, storage, err = f.sources.fetcher(c.home, c.folders, c.digests); err != nil {
		return err
	}
	if f.bucket != "" {
		if f.listed, err = storage.List(cmd.Context(), f.bucket); err != nil {
			return err
		}
	}
	f.stdout, f.stderr = cmd.OutOrStdout(), cmd.ErrOrStderr()
	return f.pinAll(cmd.Context(), c, named)
}

// parse reads the flags of the form NAME=VALUE.
func (f *lockFlags) parse() error {
	f.sourceOf, f.licenseOf, f.labelsOf = map[string][]string{}, map[string]string{}, map[string][]string{}
	for _, flag := range []struct {
		name   string
		values []string
		take   func(name, value string)
	}{
		{"source", f.explicit, func(name, value string) { f.sourceOf[name] = append(f.sourceOf[name], value) }},
		{"license", f.licenses, func(name, value string) { f.licenseOf[name] = value }},
		{"label", f.labels, func(name, value string) { f.labelsOf[name] = append(f.labelsOf[name], value) }},
	} {
		for _, text := range flag.values {
			name, value, ok := strings.Cut(text, "=")
			if !ok || name == "" || value == "" {
				return usagef("read --%s: %q must be FOLDER/NAME=VALUE", flag.name, text)
			}
			flag.take(name, value)
		}
	}
	return nil
}

// namedModel is a model file that a workflow names, with its entry where it has one.
type namedModel struct {
	workflow string
	use      fileUse
	entry    *models.Entry
}

// unpinned says that a lock file does not have a model that a workflow names.
func (n namedModel) unpinned(lock string) error {
	return fmt.Errorf("%w: %s, node %s (%s), input %s: %s does not pin %q", models.ErrMissing, n.workflow, n.use.node, n.use.class, n.use.input, lock, n.use.entryName())
}

// named lists what workflows name, each file once, sorted by name.
func (c *storeContext) named(cmd *cobra.Command, defined *nodeFlags, files []string) ([]namedModel, error) {
	finder, err := newModelFinder(c.home, defined)
	if err != nil {
		return nil, err
	}
	reader := sourceReader{stdin: cmd.InOrStdin(), warnings: cmd.ErrOrStderr(), options: ui.Options{Now: time.Now()}}
	reader.definitions = func() (ui.Definitions, error) { return ownDefinitions(cmd, c.flags, defined) }
	sources, err := reader.readAll(files)
	if err != nil {
		return nil, err
	}
	known := knownNames(c.lock, c.folders, "embeddings")
	var named []namedModel
	for _, s := range sources {
		uses, err := finder.uses(s.graph, known)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		for _, use := range uses {
			n := namedModel{workflow: s.name, use: use}
			if e, ok := c.lock.Find(use.entryName()); ok {
				n.entry = &e
			}
			named = append(named, n)
		}
	}
	slices.SortStableFunc(named, func(a, b namedModel) int { return strings.Compare(a.use.entryName(), b.use.entryName()) })
	return slices.CompactFunc(named, func(a, b namedModel) bool { return a.use.entryName() == b.use.entryName() }), nil
}

// report is --check: all models that are not pinned in one error.
func (f *lockFlags) report(cmd *cobra.Command, named []namedModel) error {
	var missing []error
	for _, n := range named {
		if n.entry == nil {
			missing = append(missing, n.unpinned(f.lock))
		} else {
			fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", n.entry.SHA256, n.entry.Name)
		}
	}
	return errors.Join(missing...)
}

// pinAll pins what is not pinned, and writes the file once.
func (f *lockFlags) pinAll(ctx context.Context, c *storeContext, named []namedModel) error {
	for _, n := range named {
		if n.entry != nil && !f.update {
			continue
		}
		e, err := f.pin(ctx, c, n)
		if err != nil {
			return fmt.Errorf("pin %q, which %s names: %w", n.use.entryName(), n.workflow, err)
		}
		c.lock.Set(e)
		fmt.Fprintf(f.stdout, "%s %s %s\n", e.SHA256, e.Name, sizeText(e.Size))
	}
	f.annotate(c.lock)
	return models.WriteLock(f.lock, c.lock)
}

// annotate adds the sources, licences and labels of the command line to entries that were pinned before.
func (f *lockFlags) annotate(lock *models.Lock) {
	for i := range lock.Models {
		e := &lock.Models[i]
		e.Sources = union(e.Sources, f.sourceOf[e.Name])
		if license := f.licenseOf[e.Name]; license != "" {
			e.License = license
		}
		if labels := f.labelsOf[e.Name]; len(labels) > 0 {
			e.Labels = union(nil, labels)
			slices.Sort(e.Labels)
		}
	}
}

// union adds what is not there yet.
func union(list, more []string) []string {
	list = slices.Clone(list)
	for _, item := range more {
		if !slices.Contains(list, item) {
			list = append(list, item)
		}
	}
	return list
}

// pin makes an entry: it reads the file in a folder if one has it, or else at its first source.
func (f *lockFlags) pin(ctx context.Context, c *storeContext, n namedModel) (models.Entry, error) {
	e := models.Entry{Name: n.use.entryName()}
	if n.entry != nil {
		e = *n.entry
	}
	e.Sources = union(e.Sources, append(slices.Clone(f.sourceOf[e.Name]), f.inBucket(e.Name)...))
	var sum models.Sum
	local, err := c.folders.Path(n.use.folder, n.use.name)
	switch {
	case err == nil:
		fmt.Fprintf(f.stderr, "reading %s\n", local)
		sum, err = hashFile(ctx, local)
	case len(e.Sources) > 0:
		fmt.Fprintf(f.stderr, "reading %s\n", e.Sources[0])
		sum, err = f.fetcher.Hash(ctx, e.Sources[0], nil)
	default:
		err = fmt.Errorf("%w; and neither --source nor --bucket has it", err)
	}
	if err != nil {
		return e, err
	}
	if len(e.Sources) == 0 {
		source, err := fetch.FileURL(local)
		if err != nil {
			return e, err
		}
		e.Sources = []string{source}
	}
	e.Size, e.SHA256, e.Pieces = sum.Size, sum.SHA256, sum.Pieces.Digest()
	if err := c.store().PutPieces(sum.Pieces); err != nil {
		return e, err
	}
	return e, f.checkListed(e)
}

// inBucket gives the objects of the bucket that lie under a name, or else under its file name.
func (f *lockFlags) inBucket(name string) []string {
	for _, end := range []string{"/" + name, "/" + path.Base(name)} {
		for _, o := range f.listed {
			if key, _, _ := strings.Cut(o.URL, "?"); strings.HasSuffix(key, end) {
				return []string{o.URL}
			}
		}
	}
	return nil
}

// checkListed compares the sizes of objects of the bucket with what was read elsewhere.
func (f *lockFlags) checkListed(e models.Entry) error {
	for _, o := range f.listed {
		if slices.Contains(e.Sources, o.URL) && o.Size != e.Size {
			return fmt.Errorf("%w: %s has %d bytes, and the file that was read %d", models.ErrDigest, o.URL, o.Size, e.Size)
		}
	}
	return nil
}

func hashFile(ctx context.Context, file string) (models.Sum, error) {
	opened, err := os.Open(file)
	if err != nil {
		return models.Sum{}, err
	}
	defer opened.Close()
	return models.HashPieces(ctx, opened, nil)
}
