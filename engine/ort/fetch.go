package ort

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// clients lists, for each source, the programs that can fetch from it, in
// order of preference, with the arguments that come before fetchArgs.
var clients = map[string][][]string{
	"npm": {{"npm"}},
	"pip": {{"pip"}, {"pip3"}, {"python3", "-m", "pip"}},
}

// fetchArgs returns the arguments that make a source's client put the pin's
// archive into the folder dir. Nothing of the package is run.
func fetchArgs(p Pin, dir string) []string {
	if p.Source == "npm" {
		return []string{"pack", "--ignore-scripts", "--pack-destination", dir, p.Package}
	}
	// The wheel for one fixed Python version: the library in it is the same
	// for all, the archive is not.
	return []string{
		"download", "--no-deps", "--only-binary=:all:", "--python-version", "3.12",
		"--platform", p.Wheel, "--dest", dir, p.Package,
	}
}

// fetch obtains the pin's archive with the first client of its source that the
// machine has, and returns the archive's path in dir. env is added to the
// client's environment.
func fetch(ctx context.Context, p Pin, dir string, env ...string) (string, error) {
	client, err := findClient(ctx, p.Source)
	if ctx.Err() != nil {
		return "", context.Cause(ctx)
	}
	if err != nil {
		return "", err
	}
	args := append(client[1:len(client):len(client)], fetchArgs(p, dir)...)
	cmd := exec.CommandContext(ctx, client[0], args...)
	cmd.Dir = dir // not the user's project, whose package.json npm would read
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return "", context.Cause(ctx)
		}
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(client, " "), err, lastLines(output.String(), 8))
	}
	for _, pattern := range []string{"*.tgz", "*.whl"} {
		if found, _ := filepath.Glob(filepath.Join(dir, pattern)); len(found) == 1 {
			return found[0], nil
		}
	}
	return "", fmt.Errorf("%s left no archive", strings.Join(client, " "))
}

// findClient returns the command line of the first client that is on the PATH
// and answers.
func findClient(ctx context.Context, source string) ([]string, error) {
	var tried []string
	for _, client := range clients[source] {
		tried = append(tried, strings.Join(client, " "))
		path, err := exec.LookPath(client[0])
		if err != nil {
			continue
		}
		version := append(client[1:len(client):len(client)], "--version")
		if exec.CommandContext(ctx, path, version...).Run() == nil { // a python3 may lack pip
			return append([]string{path}, client[1:]...), nil
		}
	}
	return nil, fmt.Errorf("no working %s on the PATH", strings.Join(tried, ", "))
}

func lastLines(s string, n int) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// unpack writes one member of a .tgz or .whl (zip) archive to a file and
// flushes it to the disk.
func unpack(archive, member, target string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	open := openTar
	if filepath.Ext(archive) == ".whl" {
		open = openZip
	}
	r, err := open(f, member)
	if err != nil {
		return fmt.Errorf("unpack %s from %s: %w", member, filepath.Base(archive), err)
	}
	out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, r)
	return errors.Join(err, out.Sync(), out.Close())
}

// openTar returns a member of a gzip-compressed tar archive.
func openTar(f *os.File, member string) (io.Reader, error) {
	zr, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	for tr := tar.NewReader(zr); ; {
		header, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil, os.ErrNotExist
		}
		if err != nil {
			return nil, err
		}
		if header.Name == member && header.Typeflag == tar.TypeReg {
			return tr, nil
		}
	}
}

// openZip returns a member of a zip archive.
func openZip(f *os.File, member string) (io.Reader, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	zr, err := zip.NewReader(f, info.Size())
	if err != nil {
		return nil, err
	}
	return zr.Open(member)
}
