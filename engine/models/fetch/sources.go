package fetch

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"

	"github.com/comfyrun/comfyrun/engine/models"
)

// Stream makes a Source of a fetcher that gives whole files only, such as that of what the program carries.
type Stream struct{ models.Fetcher }

// Stat tells nothing: the fetcher cannot be asked.
func (s Stream) Stat(_ context.Context, url string) (Object, error) {
	return Object{URL: url, Size: -1, Whole: true}, nil
}

// Open opens the file.
func (s Stream) Open(ctx context.Context, o Object, _ Range) (io.ReadCloser, error) {
	return s.Fetch(ctx, o.URL)
}

// Files reads files of this machine and of what is mounted on it: file:///folder/file.
type Files struct{}

// Stat looks at the file.
func (Files) Stat(_ context.Context, source string) (Object, error) {
	path, err := filePath(source)
	if err != nil {
		return Object{}, err
	}
	info, err := os.Stat(path)
	if os.IsNotExist(err) {
		return Object{}, fmt.Errorf("%w: %w", models.ErrMissing, err)
	}
	if err != nil {
		return Object{}, err
	}
	if !info.Mode().IsRegular() {
		return Object{}, fmt.Errorf("%s is no file", path)
	}
	return Object{URL: source, Size: info.Size(), Version: version(info)}, nil
}

func version(info os.FileInfo) string { return fmt.Sprint(info.Size(), info.ModTime().UnixNano()) }

// Open reads a part of the file.
func (Files) Open(_ context.Context, o Object, r Range) (io.ReadCloser, error) {
	path, err := filePath(o.URL)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && o.Version != "" && version(info) != o.Version {
		err = ErrChanged
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.NewSectionReader(f, r.Offset, r.Length), f}, nil
}

func filePath(source string) (string, error) {
	u, err := url.Parse(source)
	if err != nil {
		return "", err
	}
	path := filepath.FromSlash(u.Path)
	if u.Host != "" && u.Host != "localhost" || !filepath.IsAbs(path) {
		return "", fmt.Errorf("%s must be file:///FOLDER/FILE", source)
	}
	return path, nil
}

// FileURL is the source of a file of this machine.
func FileURL(path string) (string, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return (&url.URL{Scheme: "file", Path: filepath.ToSlash(path)}).String(), nil
}
