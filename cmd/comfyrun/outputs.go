package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/comfyrun/comfyrun/engine/models"
	"github.com/comfyrun/comfyrun/engine/models/s3"
	"github.com/comfyrun/comfyrun/nodes"
)

// outputStore is object storage that holds copies of saved pictures, so that a server shows what a worker on another
// machine drew.
type outputStore struct {
	storage       s3.Storage
	folder, query string // s3://BUCKET/PREFIX, and ?endpoint=… or ""
	dirs          nodes.Dirs
}

// openOutputs reads the value of --outputs.
func openOutputs(text string, dirs nodes.Dirs) (*outputStore, error) {
	folder, query, found := strings.Cut(text, "?")
	if scheme, bucket, ok := strings.Cut(folder, "://"); !ok || scheme != "s3" || strings.Trim(bucket, "/") == "" {
		return nil, usagef("read --outputs: %q is not s3://BUCKET/PREFIX", text)
	}
	if found {
		query = "?" + query
	}
	return &outputStore{folder: strings.TrimRight(folder, "/"), query: query, dirs: dirs}, nil
}

// keep makes what nodes call when they have saved something. Their folder is this process's own: its name is never used
// again, also not by the same machine with an empty disk.
func (o *outputStore) keep() *nodes.Keep {
	own := time.Now().UTC().Format("20060102") + "-" + strings.ToLower(rand.Text()[:8])
	return &nodes.Keep{Folder: own, File: o.upload}
}

// source is where a file is kept.
func (o *outputStore) source(kind, name string) string {
	parts := strings.Split(name, "/")
	for i, part := range parts {
		parts[i] = url.PathEscape(part)
	}
	return o.folder + "/" + kind + "/" + strings.Join(parts, "/") + o.query
}

// uploadTime bounds how long one file may take.
const uploadTime = 5 * time.Minute

func (o *outputStore) upload(ctx context.Context, kind, name string) error {
	dir := map[string]string{"output": o.dirs.Output, "temp": o.dirs.Temp}[kind]
	file, err := os.Open(filepath.Join(dir, filepath.FromSlash(name)))
	if err != nil {
		return err
	}
	defer file.Close()
	ctx, cancel := context.WithTimeout(ctx, uploadTime)
	defer cancel()
	return o.storage.PutFile(ctx, o.source(kind, name), file)
}

// Fetch is of web.Outputs.
func (o *outputStore) Fetch(ctx context.Context, kind, name string, w io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, uploadTime)
	defer cancel()
	err := o.storage.CopyTo(ctx, o.source(kind, path.Clean(name)), w)
	if errors.Is(err, models.ErrMissing) {
		return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return err
}
