package ort

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// LibraryName is the file name under which Install keeps the library.
const LibraryName = "libonnxruntime.so." + Version

// SearchDirs returns the folders where the library is looked for when no path
// is given: beside the executable, in its lib folder, in the lib folder next
// to its own (bin/ and lib/), then in the folders given.
func SearchDirs(executable string, dirs ...string) []string {
	var search []string
	if executable != "" {
		here := filepath.Dir(executable)
		search = append(search, here, filepath.Join(here, "lib"), filepath.Join(filepath.Dir(here), "lib"))
	}
	return append(search, dirs...)
}

// Find returns the path of the library: explicit, when it is not empty, a file
// or a folder that holds the library; otherwise the first that one of the
// folders holds. The error is an *Error with CodeLibrary that lists where was
// looked.
func Find(explicit string, dirs ...string) (string, error) {
	return FindFor("cpu", explicit, dirs...)
}

// CUDAFolder is the folder, within one that holds the library, of the library
// for CUDA and of all that belongs to it.
const CUDAFolder = "cuda"

// FindFor is Find for one provider: for "cuda" it looks into the folders named
// CUDAFolder within the folders, as for a file that has not the CUDA provider
// beside it; all other providers are in the library that Find returns. For want
// of another, the library for CUDA serves "cpu".
func FindFor(provider, explicit string, dirs ...string) (string, error) {
	if info, err := os.Stat(explicit); err == nil && info.Mode().IsRegular() {
		if provider != "cuda" || hasCUDA(filepath.Dir(explicit)) {
			return explicit, nil
		}
		explicit = filepath.Dir(explicit)
	}
	if explicit != "" {
		dirs = []string{explicit}
	}
	hint := "comfyrun runtime install"
	if provider == "cuda" {
		dirs, hint = cudaFolders(explicit, dirs), hint+" --provider cuda"
	}
	places := dirs
	if provider == "cpu" {
		places = append(dirs[:len(dirs):len(dirs)], cudaFolders("", dirs)...)
	}
	for _, dir := range places {
		if path, ok := inFolder(dir); ok {
			return path, nil
		}
	}
	return "", &Error{
		Op: "find library", Code: CodeLibrary,
		Message: "no ONNX Runtime " + Version + " (" + LibraryName + ") in " + strings.Join(dirs, ", ") +
			"; install it with: " + hint,
	}
}

// cudaFolders returns where the library for CUDA may be. An explicit folder may
// be the one itself.
func cudaFolders(explicit string, dirs []string) []string {
	var folders []string
	for _, dir := range dirs {
		if dir != "" {
			folders = append(folders, filepath.Join(dir, CUDAFolder))
		}
	}
	if explicit != "" && hasCUDA(explicit) {
		folders = append(folders, explicit)
	}
	return folders
}

// hasCUDA reports whether a library in the folder can load the CUDA provider.
func hasCUDA(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, cudaProvider))
	return err == nil
}

// inFolder prefers the pinned name, then other releases, the latest by name
// first; the version gate of Open judges what was found.
func inFolder(dir string) (string, bool) {
	if dir == "" {
		return "", false
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", false
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "libonnxruntime.so") {
			names = append(names, e.Name())
		}
	}
	if len(names) == 0 {
		return "", false
	}
	if slices.Contains(names, LibraryName) {
		return filepath.Join(dir, LibraryName), true
	}
	return filepath.Join(dir, slices.Max(names)), true
}

// digest returns a file's sha256 in hexadecimal.
func digest(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
