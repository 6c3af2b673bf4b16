package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// built is an image with what is said of it.
type built struct {
	image      v1.Image
	digest     string
	compressed int64 // bytes of all layers
	version    string
	created    time.Time
	platform   v1.Platform
}

// assemble puts layers and configuration together.
func assemble(in inputs, layers []layer) (*built, error) {
	made := &built{version: in.version, created: in.created, platform: v1.Platform{OS: "linux", Architecture: in.arch}}
	image := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	image, err := mutate.ConfigFile(image, in.config())
	if err != nil {
		return nil, fmt.Errorf("write image configuration: %w", err)
	}
	for _, l := range layers {
		text, err := l.tar(in.created)
		if err != nil {
			return nil, err
		}
		packed, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil },
			tarball.WithMediaType(types.OCILayer), tarball.WithCompressionLevel(gzip.DefaultCompression), tarball.WithCompressedCaching)
		if err != nil {
			return nil, fmt.Errorf("pack layer %s: %w", l.name, err)
		}
		size, err := packed.Size()
		if err != nil {
			return nil, fmt.Errorf("pack layer %s: %w", l.name, err)
		}
		made.compressed += size
		history := v1.History{Created: v1.Time{Time: in.created}, CreatedBy: "comfyrun image: " + l.name}
		if image, err = mutate.Append(image, mutate.Addendum{Layer: packed, History: history}); err != nil {
			return nil, fmt.Errorf("add layer %s: %w", l.name, err)
		}
	}
	made.image = image
	digest, err := image.Digest()
	made.digest = digest.String()
	return made, err
}

// config is how a container of the image runs: without root, with a home that a volume may be mounted on. Any other user
// works as well, as nothing in the image belongs to this one but that folder.
func (in inputs) config() *v1.ConfigFile {
	return &v1.ConfigFile{
		Architecture: in.arch, OS: "linux", Created: v1.Time{Time: in.created}, RootFS: v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:         fmt.Sprintf("%d:%d", user, user),
			Entrypoint:   []string{"/" + programPath},
			WorkingDir:   "/data",
			Env:          []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/data", "COMFYRUN_HOME=/data", "TMPDIR=/tmp"},
			ExposedPorts: map[string]struct{}{"8188/tcp": {}},
			Labels: map[string]string{
				"org.opencontainers.image.title":       "comfyrun",
				"org.opencontainers.image.description": "Runs ComfyUI workflows without Python",
				"org.opencontainers.image.source":      "https://github.com/comfyrun/comfyrun",
				"org.opencontainers.image.licenses":    "Apache-2.0",
				"org.opencontainers.image.version":     in.version,
				"org.opencontainers.image.revision":    in.revision,
				"org.opencontainers.image.created":     in.created.Format(time.RFC3339),
			},
		},
	}
}

// write puts the image into a folder, which is made anew, and the same as a tar file beside it.
func (b *built) write(folder string) error {
	if err := os.RemoveAll(folder); err != nil {
		return fmt.Errorf("remove the image before: %w", err)
	}
	path, err := layout.Write(folder, empty.Index)
	if err == nil {
		err = path.AppendImage(b.image, layout.WithPlatform(b.platform), layout.WithAnnotations(map[string]string{
			"org.opencontainers.image.ref.name": b.version,
		}))
	}
	if err != nil {
		return fmt.Errorf("write image: %w", err)
	}
	return b.archive(folder)
}

// archive writes FOLDER.tar: the layout as one file, for podman load, skopeo and ctr.
func (b *built) archive(folder string) (err error) {
	out, err := os.Create(folder + ".tar")
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	defer func() {
		if closed := out.Close(); err == nil {
			err = closed
		}
	}()
	w := tar.NewWriter(out)
	err = filepath.WalkDir(folder, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == folder {
			return err
		}
		name, err := filepath.Rel(folder, file)
		if err != nil {
			return err
		}
		h := &tar.Header{Name: filepath.ToSlash(name), Mode: 0o644, ModTime: b.created, Typeflag: tar.TypeReg}
		var data []byte
		if d.IsDir() {
			h.Name, h.Mode, h.Typeflag = h.Name+"/", 0o755, tar.TypeDir
		} else if data, err = os.ReadFile(file); err != nil {
			return err
		}
		h.Size = int64(len(data))
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		_, err = w.Write(data)
		return err
	})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return fmt.Errorf("write image archive: %w", err)
	}
	return nil
}
