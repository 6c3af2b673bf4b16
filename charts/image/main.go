// Command image packs comfyrun into a container image without a container daemon.
//
// Vocabulary: the image is an OCI image layout, a folder that registries' tools copy as it is. Its layers are the base
// (what a program that opens shared libraries needs of Debian: loader, C and C++ libraries, certificates of authorities),
// the ONNX Runtime library, and the program. The base comes from the machine that the image is made on, file by file as
// the libraries ask for them, and is listed with its packages' versions in the SBOM, an SPDX document. A static program
// would need no base, but could not open ONNX Runtime's library.
//
// The same inputs give the same digest: times are those of --epoch, order and owners are fixed, and nothing of the
// machine gets in but the files that the SBOM lists.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

// inputs are what an image is made of.
type inputs struct {
	program  string // comfyrun
	library  string // libonnxruntime
	notices  string // folder with LICENSE and NOTICE
	out      string // folder for the layout; OUT.tar and OUT.spdx.json are written beside it
	root     string // not empty: folder for the files as a container sees them, and no layout
	version  string
	revision string
	arch     string
	created  time.Time
}

func main() {
	in, err := parse(os.Args[1:])
	if err == nil {
		err = run(in)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "image: %v\n", err)
		os.Exit(1)
	}
}

func parse(args []string) (inputs, error) {
	in := inputs{arch: runtime.GOARCH}
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	epoch := flags.Int64("epoch", 0, "time of everything in the image, in seconds since 1970")
	flags.StringVar(&in.program, "program", "bin/comfyrun", "the program, linked for this machine")
	flags.StringVar(&in.library, "library", "", "the ONNX Runtime library")
	flags.StringVar(&in.notices, "notices", ".", "folder with LICENSE and NOTICE")
	flags.StringVar(&in.out, "out", "dist/image", "folder for the OCI image layout")
	flags.StringVar(&in.root, "root", "", "write the image's files into this folder, as a Dockerfile copies them, instead of a layout")
	flags.StringVar(&in.version, "version", "devel", "version of the program")
	flags.StringVar(&in.revision, "revision", "", "commit that the program is made of")
	if err := flags.Parse(args); err != nil {
		return in, err
	}
	in.created = time.Unix(*epoch, 0).UTC()
	if in.library == "" {
		found, err := filepath.Glob("lib/libonnxruntime.so*")
		if err != nil || len(found) != 1 {
			return in, fmt.Errorf("find ONNX Runtime: lib/ has %d files libonnxruntime.so*, want 1 (make lib)", len(found))
		}
		in.library = found[0]
	}
	return in, nil
}

// run makes the image and says what it came to.
func run(in inputs) error {
	layers, bill, err := in.layers()
	if err != nil {
		return err
	}
	if in.root != "" {
		return writeRoot(in.root, layers)
	}
	made, err := assemble(in, layers)
	if err != nil {
		return err
	}
	if err := made.write(in.out); err != nil {
		return err
	}
	if err := os.WriteFile(in.out+".spdx.json", bill, 0o644); err != nil {
		return fmt.Errorf("write SBOM: %w", err)
	}
	var total int64
	for _, l := range layers {
		total += l.size()
		fmt.Printf("%-10s %6.1f MB in %d files\n", l.name, float64(l.size())/1e6, len(l.entries))
	}
	fmt.Printf("%s %s, %.1f MB unpacked, %.1f MB to send\n", in.out, made.digest, float64(total)/1e6, float64(made.compressed)/1e6)
	return nil
}

// layers collects the files of the three layers, and the SBOM, which is one of them.
func (in inputs) layers() ([]layer, []byte, error) {
	libraries, err := sharedLibraries(in.program, in.library)
	if err != nil {
		return nil, nil, err
	}
	base, packages, err := baseLayer(libraries)
	if err != nil {
		return nil, nil, err
	}
	bill, err := in.bill(packages)
	if err != nil {
		return nil, nil, err
	}
	onnx := layer{name: "library"}
	program := layer{name: "program"}
	err = onnx.copy(in.library, "usr/local/lib/"+filepath.Base(in.library), 0o644)
	for _, file := range []struct {
		from, to string
		mode     int64
	}{
		{in.program, programPath, 0o755},
		{filepath.Join(in.notices, "LICENSE"), "usr/share/doc/comfyrun/LICENSE", 0o644},
		{filepath.Join(in.notices, "NOTICE"), "usr/share/doc/comfyrun/NOTICE", 0o644},
	} {
		if err == nil {
			err = program.copy(file.from, file.to, file.mode)
		}
	}
	program.add(entry{path: "usr/share/doc/comfyrun/sbom.spdx.json", mode: 0o644, data: bill})
	return []layer{base, onnx, program}, bill, err
}

const programPath = "usr/local/bin/comfyrun"
