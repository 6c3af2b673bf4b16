// Schemagen writes strict JSON schemas of Kubernetes' objects, one file each, named as kubeconform names them: from the
// OpenAPI v3 documents of the module k8s.io/kubernetes and from CustomResourceDefinitions.
//
//	schemagen OUT OPENAPI_DIR [CRD_DIR…]
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

type object = map[string]any

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "schemagen:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: schemagen OUT OPENAPI_DIR [CRD_DIR…]")
	}
	out := args[0]
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	documents, err := filepath.Glob(filepath.Join(args[1], "*_openapi.json"))
	if err != nil {
		return err
	}
	if len(documents) == 0 {
		return fmt.Errorf("no *_openapi.json in %s", args[1])
	}
	for _, file := range documents {
		if err := fromOpenAPI(out, file); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
	}
	for _, dir := range args[2:] {
		if err := fromFolder(out, dir); err != nil {
			return err
		}
	}
	return nil
}

// fromOpenAPI writes a schema for every type of a document that stands for one kind.
func fromOpenAPI(out, file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var document struct {
		Components struct{ Schemas map[string]object }
	}
	if err := json.Unmarshal(data, &document); err != nil {
		return err
	}
	types := document.Components.Schemas
	for _, schema := range types {
		kinds, _ := schema["x-kubernetes-group-version-kind"].([]any)
		if len(kinds) != 1 { // more than one: types that all groups share
			continue
		}
		gvk := kinds[0].(object)
		root := strict(schema).(object)
		definitions := object{}
		collect(root, types, definitions)
		root["definitions"] = definitions
		if err := write(out, root, gvk["group"].(string), gvk["version"].(string), gvk["kind"].(string)); err != nil {
			return err
		}
	}
	return nil
}

// collect adds what a schema refers to, and what that refers to.
func collect(node any, types map[string]object, definitions object) {
	switch n := node.(type) {
	case object:
		if ref, ok := n["$ref"].(string); ok {
			name := strings.TrimPrefix(ref, "#/definitions/")
			if definitions[name] == nil {
				definitions[name] = strict(types[name])
				collect(definitions[name], types, definitions)
			}
		}
		for _, v := range n {
			collect(v, types, definitions)
		}
	case []any:
		for _, v := range n {
			collect(v, types, definitions)
		}
	}
}

// strict copies a schema into draft-07: unknown members are refused, and Kubernetes' own words become standard ones.
func strict(schema object) any {
	if schema["x-kubernetes-int-or-string"] == true || schema["format"] == "int-or-string" {
		return object{"oneOf": []any{object{"type": "string"}, object{"type": "integer"}}}
	}
	open := schema["x-kubernetes-preserve-unknown-fields"] == true || schema["additionalProperties"] != nil
	out := object{}
	for key, value := range schema {
		switch {
		case strings.HasPrefix(key, "x-kubernetes-"), key == "nullable", key == "format" && value == "quantity", key == "default":
		case key == "$ref":
			out[key] = strings.Replace(value.(string), "#/components/schemas/", "#/definitions/", 1)
		case key == "properties":
			properties := object{}
			for name, p := range value.(object) {
				properties[name] = strict(p.(object))
			}
			out[key] = properties
			if !open {
				out["additionalProperties"] = false
			}
		default:
			out[key] = descend(value)
		}
	}
	if t, ok := out["type"].(string); ok && schema["nullable"] == true {
		out["type"] = []any{t, "null"}
	}
	return out
}

func descend(value any) any {
	switch v := value.(type) {
	case object:
		return strict(v)
	case []any:
		list := make([]any, len(v))
		for i, e := range v {
			list[i] = descend(e)
		}
		return list
	}
	return value
}

func fromFolder(out, dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no *.yaml in %s", dir)
	}
	slices.Sort(files)
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, document := range bytes.Split(data, []byte("\n---")) {
			if err := fromCRD(out, document); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return nil
}

func fromCRD(out string, document []byte) error {
	var crd struct {
		Kind string
		Spec struct {
			Group    string
			Names    struct{ Kind string }
			Versions []struct {
				Name   string
				Schema struct{ OpenAPIV3Schema object }
			}
		}
	}
	if err := yaml.Unmarshal(document, &crd); err != nil {
		return err
	}
	if crd.Kind != "CustomResourceDefinition" {
		return nil
	}
	for _, version := range crd.Spec.Versions {
		root := strict(version.Schema.OpenAPIV3Schema).(object)
		root["properties"].(object)["metadata"] = object{"type": "object"}
		if err := write(out, root, crd.Spec.Group, version.Name, crd.Spec.Names.Kind); err != nil {
			return err
		}
	}
	return nil
}

// write pins kind and apiVersion, and names the file KIND-GROUP-VERSION.json, of the group only what is before a point.
func write(out string, root object, group, version, kind string) error {
	root["$schema"] = "http://json-schema.org/draft-07/schema#"
	api, first := version, ""
	if group != "" {
		api = group + "/" + version
		first, _, _ = strings.Cut(group, ".")
		first += "-"
	}
	if properties, ok := root["properties"].(object); ok {
		properties["kind"] = object{"enum": []any{kind}}
		properties["apiVersion"] = object{"enum": []any{api}}
	}
	data, err := json.Marshal(root)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(out, strings.ToLower(kind)+"-"+first+version+".json"), data, 0o644)
}
