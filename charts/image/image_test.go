//go:build image

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"image/png"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// The test needs root, a Debian machine, bin/comfyrun and lib/: make test-image provides the last two.

// maxUnpacked and maxSent bound the image, in bytes.
const maxUnpacked, maxSent = 150e6, 80e6

func made(t *testing.T, out string) inputs {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	libraries, err := filepath.Glob(filepath.Join(top, "lib", "libonnxruntime.so*"))
	if err != nil || len(libraries) != 1 {
		t.Fatalf("lib/ has %v (%v)", libraries, err)
	}
	in := inputs{
		program: filepath.Join(top, "bin", "comfyrun-image"), library: libraries[0], notices: top, out: out,
		version: "test", arch: "amd64", created: time.Unix(1700000000, 0).UTC(),
	}
	if err := run(in); err != nil {
		t.Fatal(err)
	}
	return in
}

// An image is small, the same when it is made again, and passes OCI's own checks; a container of it, with nothing of this
// machine, a root that cannot be written and a user without rights, draws the default workflow as the program does outside.
func TestImage(t *testing.T) {
	dir := t.TempDir()
	in := made(t, filepath.Join(dir, "one"))
	again := made(t, filepath.Join(dir, "two"))
	for _, end := range []string{".tar", ".spdx.json"} {
		if a, b := sum(t, in.out+end), sum(t, again.out+end); a != b {
			t.Errorf("made twice, %s differs", end)
		}
	}
	root := filepath.Join(dir, "root")
	unpacked := unpack(t, in.out, root)
	if unpacked > maxUnpacked || size(t, in.out+".tar") > maxSent {
		t.Errorf("the image has %d bytes, packed %d", unpacked, size(t, in.out+".tar"))
	}
	workflow, err := os.ReadFile("../../workflows/default.json")
	if err != nil {
		t.Fatal(err)
	}
	outside := filepath.Join(dir, "outside")
	draw(t, exec.Command(in.program, "exec", "-", "--home", outside, "--out", filepath.Join(outside, "out"), "--library", in.library), workflow)
	data := filepath.Join(dir, "data")
	draw(t, container(t, root, data, "exec", "-", "--out", "/data/out"), workflow)
	if a, b := picture(t, filepath.Join(outside, "out")), picture(t, filepath.Join(data, "out")); a != b {
		t.Error("the container's picture is another one")
	}
	if out := draw(t, container(t, root, data, "runtime", "info"), nil); !strings.Contains(out, "/usr/local/lib/libonnxruntime.so") {
		t.Errorf("runtime info says:\n%s", out)
	}
}

// container runs the program of an unpacked image as a container engine would: own mounts and processes, user 65532, no way
// to more rights, and only /data and /tmp writable.
func container(t *testing.T, root, data string, args ...string) *exec.Cmd {
	t.Helper()
	if err := os.MkdirAll(data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(data, user, user); err != nil {
		t.Fatal(err)
	}
	const script = `set -e
root=$1 data=$2; shift 2
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount --bind "$data" "$root/data"
mount -o remount,ro,bind "$root"
if touch "$root/etc/written" 2>/dev/null; then echo 'the root can be written' >&2; exit 1; fi
cd "$root"
exec setpriv --no-new-privs chroot --userspec=65532:65532 --groups= "$root" /usr/local/bin/comfyrun "$@"`
	cmd := exec.Command("unshare", append([]string{"--mount", "--pid", "--fork", "--ipc", "--net", "sh", "-c", script, "sh", root, data}, args...)...)
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/data", "COMFYRUN_HOME=/data", "TMPDIR=/tmp"}
	return cmd
}

func draw(t *testing.T, cmd *exec.Cmd, stdin []byte) string {
	t.Helper()
	cmd.Stdin = bytes.NewReader(stdin)
	var out, problems bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &problems
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd.Args, err, problems.String())
	}
	return out.String()
}

// picture is the digest of the pixels of the one picture of a folder.
func picture(t *testing.T, folder string) [sha256.Size]byte {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.png"))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s has the pictures %v (%v)", folder, files, err)
	}
	file, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	decoded, err := png.Decode(file)
	if err != nil {
		t.Fatal(err)
	}
	var pixels bytes.Buffer
	for y := range decoded.Bounds().Dy() {
		for x := range decoded.Bounds().Dx() {
			r, g, b, a := decoded.At(x, y).RGBA()
			pixels.Write([]byte{byte(r >> 8), byte(g >> 8), byte(b >> 8), byte(a >> 8)})
		}
	}
	return sha256.Sum256(pixels.Bytes())
}

func sum(t *testing.T, file string) string {
	t.Helper()
	text, err := sumOf(file)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func size(t *testing.T, file string) int64 {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// unpack lays out the image of a layout as a container engine does, digests checked, and counts the bytes of its files.
func unpack(t *testing.T, folder, root string) (total int64) {
	t.Helper()
	index, err := layout.ImageIndexFromPath(folder)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != 1 {
		t.Fatalf("index has %v (%v)", manifest, err)
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.RawConfigFile()
	if err != nil || !json.Valid(config) {
		t.Fatalf("configuration %s (%v)", config, err)
	}
	layers, err := image.Layers()
	if err == nil {
		err = os.MkdirAll(root, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		packed, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := gzip.NewReader(packed)
		if err != nil {
			t.Fatal(err)
		}
		for r := tar.NewReader(raw); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			total += h.Size
			if err := place(filepath.Join(root, h.Name), h, r); err != nil {
				t.Fatal(err)
			}
		}
		packed.Close()
	}
	return total
}

func place(path string, h *tar.Header, data io.Reader) error {
	switch h.Typeflag {
	case tar.TypeDir:
		if err := os.MkdirAll(path, 0o755); err != nil {
			return err
		}
	case tar.TypeSymlink:
		return os.Symlink(h.Linkname, path)
	default:
		text, err := io.ReadAll(data)
		if err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
	}
	if err := os.Chown(path, h.Uid, h.Gid); err != nil {
		return err
	}
	return os.Chmod(path, h.FileInfo().Mode())
}
