package main

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

// spdx is a document of SPDX 2.3, as far as it is needed here.
type spdx struct {
	Version       string         `json:"spdxVersion"`
	DataLicense   string         `json:"dataLicense"`
	ID            string         `json:"SPDXID"`
	Name          string         `json:"name"`
	Namespace     string         `json:"documentNamespace"`
	CreationInfo  creation       `json:"creationInfo"`
	Packages      []software     `json:"packages"`
	Relationships []relationship `json:"relationships"`
}

type creation struct {
	Created  string   `json:"created"`
	Creators []string `json:"creators"`
}

type software struct {
	ID            string      `json:"SPDXID"`
	Name          string      `json:"name"`
	Version       string      `json:"versionInfo"`
	Download      string      `json:"downloadLocation"`
	FilesAnalyzed bool        `json:"filesAnalyzed"`
	Concluded     string      `json:"licenseConcluded"`
	Declared      string      `json:"licenseDeclared"`
	Copyright     string      `json:"copyrightText"`
	Checksums     []checksum  `json:"checksums,omitempty"`
	Refs          []reference `json:"externalRefs,omitempty"`
}

type checksum struct {
	Algorithm string `json:"algorithm"`
	Value     string `json:"checksumValue"`
}

type reference struct {
	Category string `json:"referenceCategory"`
	Type     string `json:"referenceType"`
	Locator  string `json:"referenceLocator"`
}

type relationship struct {
	From string `json:"spdxElementId"`
	Type string `json:"relationshipType"`
	To   string `json:"relatedSpdxElement"`
}

const nothing = "NOASSERTION"

var notInIDs = regexp.MustCompile(`[^A-Za-z0-9.-]+`)

func newSoftware(kind, name, version, purl string) software {
	s := software{
		ID: "SPDXRef-" + notInIDs.ReplaceAllString(kind+"-"+name+"-"+version, "-"), Name: name, Version: version,
		Download: nothing, Concluded: nothing, Declared: nothing, Copyright: nothing,
	}
	if purl != "" {
		s.Refs = []reference{{"PACKAGE-MANAGER", "purl", purl}}
	}
	return s
}

// bill is the SBOM: the program with the Go modules in it, the ONNX Runtime library, and Debian's packages.
func (in inputs) bill(packages []debian) ([]byte, error) {
	program := newSoftware("Program", "comfyrun", in.version, "")
	program.Declared = "Apache-2.0"
	library := newSoftware("Library", "onnxruntime", strings.TrimPrefix(filepath.Base(in.library), "libonnxruntime.so."), "")
	library.Declared = "MIT"
	for _, part := range []struct {
		of   *software
		file string
	}{{&program, in.program}, {&library, in.library}} {
		sum, err := sumOf(part.file)
		if err != nil {
			return nil, err
		}
		part.of.Checksums = []checksum{{"SHA256", sum}}
	}
	doc := spdx{
		Version: "SPDX-2.3", DataLicense: "CC0-1.0", ID: "SPDXRef-DOCUMENT", Name: "comfyrun-" + in.version,
		Namespace:    "https://github.com/comfyrun/comfyrun/spdx/" + program.Checksums[0].Value,
		CreationInfo: creation{in.created.Format(time.RFC3339), []string{"Tool: comfyrun-image"}},
		Packages:     []software{program, library},
	}
	modules, err := modulesOf(in.program)
	if err != nil {
		return nil, err
	}
	doc.Packages = append(doc.Packages, modules...)
	for _, p := range packages {
		doc.Packages = append(doc.Packages, newSoftware("Debian", p.name, p.version,
			fmt.Sprintf("pkg:deb/debian/%s@%s?arch=%s", p.name, strings.ReplaceAll(p.version, "+", "%2B"), p.arch)))
	}
	for i, p := range doc.Packages {
		of, kind := "SPDXRef-DOCUMENT", "DESCRIBES"
		if i > 1 && i < 2+len(modules) {
			of, kind = program.ID, "STATIC_LINK"
		}
		doc.Relationships = append(doc.Relationships, relationship{of, kind, p.ID})
	}
	text, err := json.MarshalIndent(doc, "", "  ")
	return append(text, '\n'), err
}

// modulesOf reads the Go release and the modules that a program is linked of.
func modulesOf(program string) ([]software, error) {
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return nil, fmt.Errorf("read modules of %s: %w", program, err)
	}
	list := []software{newSoftware("Go", "stdlib", strings.TrimPrefix(info.GoVersion, "go"), "pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go"))}
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		list = append(list, newSoftware("Go", m.Path, m.Version, "pkg:golang/"+m.Path+"@"+strings.ReplaceAll(m.Version, "+", "%2B")))
	}
	return list, nil
}

func sumOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", fmt.Errorf("read file for SBOM: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", fmt.Errorf("read file for SBOM: %w", err)
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
