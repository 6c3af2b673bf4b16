package models

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v2"
)

// AddYAML adds the directories of an extra_model_paths.yaml: sections of folder keys, each with one directory per line,
// below the section's base_path if it has one and below the YAML file's directory if not. A section with is_default
// comes first in the search. expand replaces variables and the home directory in base_path; nil leaves it as it is.
// Sections and keys count in the order of the file.
func (f *Folders) AddYAML(file string, expand func(string) string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("read extra model paths: %w", err)
	}
	if expand == nil {
		expand = func(s string) string { return s }
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return fmt.Errorf("read extra model paths %s: %w", file, err)
	}
	sections, err := parseSections(data)
	if err != nil {
		return fmt.Errorf("read extra model paths %s: %w", file, err)
	}
	for _, s := range sections {
		base := dir
		if s.base != "" {
			base = below(dir, expand(s.base))
		}
		for _, p := range s.paths {
			f.Add(p.key, below(base, p.dir), s.first)
		}
	}
	return nil
}

func below(base, path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(base, path)
}

// section is one top-level block of the file.
type section struct {
	base  string
	first bool
	paths []extraPath
}

type extraPath struct{ key, dir string }

// parseSections reads the file's blocks in their order; empty blocks are left out.
func parseSections(data []byte) ([]section, error) {
	var blocks yaml.MapSlice
	if err := yaml.Unmarshal(data, &blocks); err != nil {
		return nil, err
	}
	var sections []section
	for _, block := range blocks {
		if block.Value == nil {
			continue
		}
		entries, ok := block.Value.(yaml.MapSlice)
		if !ok {
			return nil, fmt.Errorf("section %v: is %T, want keys with paths", block.Key, block.Value)
		}
		s, err := parseSection(entries)
		if err != nil {
			return nil, fmt.Errorf("section %v: %w", block.Key, err)
		}
		sections = append(sections, s)
	}
	return sections, nil
}

func parseSection(entries yaml.MapSlice) (section, error) {
	var s section
	for _, entry := range entries {
		key := fmt.Sprint(entry.Key)
		switch value := entry.Value.(type) {
		case nil:
		case bool:
			if key != "is_default" {
				return s, fmt.Errorf("key %s: is a boolean, want paths", key)
			}
			s.first = value
		case string:
			s.add(key, value)
		default:
			return s, fmt.Errorf("key %s: is %T, want paths, one per line", key, value)
		}
	}
	return s, nil
}

func (s *section) add(key, value string) {
	if key == "base_path" {
		s.base = value
		return
	}
	for line := range strings.Lines(value) {
		if dir := strings.TrimSuffix(line, "\n"); dir != "" {
			s.paths = append(s.paths, extraPath{key, dir})
		}
	}
}
