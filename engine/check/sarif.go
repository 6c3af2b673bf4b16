package check

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
	"github.com/comfyrun/comfyrun/engine/policy"
)

// The objects of a SARIF 2.1.0 log (OASIS, Static Analysis Results Interchange Format), as far as findings need them.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version,omitempty"`
		URI     string      `json:"informationUri"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID    string    `json:"id"`
		Short sarifText `json:"shortDescription"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        Severity          `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
	}
	sarifLocation struct {
		Physical sarifPhysical  `json:"physicalLocation"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn"`
		EndLine     int `json:"endLine"`
		EndColumn   int `json:"endColumn"`
	}
	sarifLogical struct {
		Name string `json:"name"`
		Full string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
)

const (
	sarifSchema = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
	projectURL  = "https://github.com/comfyrun/comfyrun"
)

// WriteSARIF writes a SARIF 2.1.0 log of one run, for services that show findings. Files are named relative to the
// working folder, as they were given. version is the program's.
func WriteSARIF(w io.Writer, findings []Finding, version string) error {
	run := sarifRun{
		Tool:       sarifTool{sarifDriver{Name: "comfyrun check", Version: version, URI: projectURL, Rules: rulesOf(findings)}},
		ColumnKind: "unicodeCodePoints", Results: []sarifResult{},
	}
	seen := map[string]int{}
	for i := range findings {
		f := &findings[i]
		rule := slices.IndexFunc(run.Tool.Driver.Rules, func(r sarifRule) bool { return r.ID == string(f.Kind) })
		run.Results = append(run.Results, sarifResult{
			RuleID: string(f.Kind), RuleIndex: rule, Level: f.Severity, Message: sarifText{f.Text()},
			Locations: []sarifLocation{f.location()}, Fingerprints: map[string]string{"comfyrun/v1": f.fingerprint(seen)},
		})
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(sarifLog{Schema: sarifSchema, Version: "2.1.0", Runs: []sarifRun{run}}); err != nil {
		return fmt.Errorf("write SARIF: %w", err)
	}
	_, err := w.Write(b.Bytes())
	return err
}

// rulesOf lists the kinds that occur, sorted.
func rulesOf(findings []Finding) []sarifRule {
	rules := []sarifRule{}
	for i := range findings {
		id := string(findings[i].Kind)
		if slices.ContainsFunc(rules, func(r sarifRule) bool { return r.ID == id }) {
			continue
		}
		rules = append(rules, sarifRule{id, sarifText{Describe(findings[i].Kind)}})
	}
	slices.SortFunc(rules, func(a, b sarifRule) int { return strings.Compare(a.ID, b.ID) })
	return rules
}

func (f *Finding) location() sarifLocation {
	l := sarifLocation{Physical: sarifPhysical{Artifact: sarifArtifact{fileURI(f.File)}}}
	if f.Line > 0 {
		l.Physical.Region = &sarifRegion{f.Line, f.Column, f.EndLine, f.EndColumn}
	}
	if f.Node != "" {
		name, full, kind := f.Node, f.Node, "object"
		if f.Input != "" {
			name, full, kind = f.Input, f.Node+"."+f.Input, "property"
		}
		l.Logical = []sarifLogical{{Name: name, Full: full, Kind: kind}}
	}
	return l
}

// fileURI is a file's name as a reference: relative as it is, absolute as file://.
func fileURI(file string) string {
	name := slashed(file)
	if path.IsAbs(name) {
		return (&url.URL{Scheme: "file", Path: name}).String()
	}
	return (&url.URL{Path: path.Clean(name)}).String()
}

// fingerprint tells a finding from others whatever else moves in the file; of several alike it counts.
func (f *Finding) fingerprint(seen map[string]int) string {
	text := strings.Join([]string{slashed(f.File), string(f.Kind), f.Node, f.Class, f.Input}, "\x00")
	n := seen[text]
	seen[text]++
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", text, n))
	return hex.EncodeToString(sum[:16])
}

// Describe says in a line what findings of a kind mean.
func Describe(kind engine.ErrorKind) string {
	if text, ok := descriptions()[kind]; ok {
		return text
	}
	return strings.ReplaceAll(string(kind), "_", " ")
}

func descriptions() map[engine.ErrorKind]string {
	return map[engine.ErrorKind]string{
		InvalidJSON:            "The file is no JSON.",
		InvalidWorkflow:        "The file holds no workflow.",
		ConversionFailed:       "The editor's format cannot be converted without guessing.",
		ConversionWarning:      "The editor's format converts, and something about that is worth knowing.",
		ModelMissing:           "A model file is named that is nowhere.",
		ModelNotPinned:         "A model file is named that models.lock does not hold to its content.",
		NodeUnused:             "A node does not run, since no output needs it.",
		InputUnknown:           "A node is given an input that its class does not have.",
		policy.Violation:       "The policy does not allow it.",
		engine.NoOutputs:       "Nothing would run.",
		engine.MissingNodeType: "A node is of a class that is not known.",
		engine.InputMissing:    "An input is not given that must be.",
		engine.BadLink:         "A link is not of the form [node, output].",
		engine.TypeMismatch:    "A link leads from an output of another type.",
		engine.InvalidType:     "A value is of the wrong type.",
		engine.TooSmall:        "A value is below the smallest that is allowed.",
		engine.TooBig:          "A value is above the largest that is allowed.",
		engine.NotInList:       "A value is none of the choices.",
		engine.CustomFailed:    "A check of the node's own failed.",
		engine.ValidationBroke: "A link leads nowhere.",
		engine.InnerBroke:      "A link leads nowhere.",
		engine.DependencyCycle: "Nodes wait for each other.",
	}
}
