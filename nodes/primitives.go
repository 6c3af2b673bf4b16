package nodes

import (
	"context"
	"strings"

	"github.com/comfyrun/comfyrun/engine"
)

// addPrimitives declares the nodes that hold one value, and those for strings.
func addPrimitives(c *engine.Catalog) {
	const category, module = "utils/primitive", "comfy_extras.nodes_primitive"
	engine.Add(c, "PrimitiveString", category, primitiveString{}, valueString).V3().Module(module).
		Title("String").Doc("A line of text.")
	engine.Add(c, "PrimitiveStringMultiline", category, primitiveText{}, valueText).V3().Module(module).
		Title("String (Multiline)").Doc("A text of several lines.")
	engine.Add(c, "PrimitiveInt", category, primitiveInt{}, valueInt).V3().Module(module).
		Title("Int").Doc("A whole number.")
	engine.Add(c, "PrimitiveFloat", category, primitiveFloat{}, valueFloat).V3().Module(module).
		Title("Float").Doc("A number.")
	engine.Add(c, "PrimitiveBoolean", category, primitiveBoolean{}, valueBoolean).V3().Module(module).
		Title("Boolean").Doc("Yes or no.")
	addStrings(c)
}

type primitiveString struct {
	Value string `in:"value" ui:"multiline=false"`
}

func valueString(_ context.Context, in primitiveString) (string, error) { return in.Value, nil }

type primitiveText struct {
	Value string `in:"value" ui:"multiline"`
}

func valueText(_ context.Context, in primitiveText) (string, error) { return in.Value, nil }

type primitiveInt struct {
	Value int64 `in:"value" range:"-9223372036854775807,9223372036854775807" ui:"nodefault,control_after_generate"`
}

func valueInt(_ context.Context, in primitiveInt) (int64, error) { return in.Value, nil }

type primitiveFloat struct {
	Value float64 `in:"value" range:"-9223372036854775807,9223372036854775807" ui:"nodefault"`
}

func valueFloat(_ context.Context, in primitiveFloat) (float64, error) { return in.Value, nil }

type primitiveBoolean struct {
	Value bool `in:"value" ui:"nodefault"`
}

func valueBoolean(_ context.Context, in primitiveBoolean) (bool, error) { return in.Value, nil }

// addStrings declares the nodes that work on texts.
func addStrings(c *engine.Catalog) {
	const category, module = "utils/string", "comfy_extras.nodes_string"
	engine.Add(c, "StringConcatenate", category, stringConcatenate{}, concatenate).V3().Module(module).
		Title("Concatenate").Doc("Joins two texts with a delimiter between them.")
	engine.Add(c, "StringContains", category, stringContains{CaseSensitive: true}, contains).V3().Module(module).
		OutputNames("contains").Title("Contains").Doc("Tells whether a text occurs in another one.")
	engine.Add(c, "StringReplace", category, stringReplace{}, replace).V3().Module(module).
		Title("Replace").Doc("Replaces every occurrence of a text.")
}

type stringConcatenate struct {
	A         string `in:"string_a" ui:"multiline"`
	B         string `in:"string_b" ui:"multiline"`
	Delimiter string `in:"delimiter" ui:"default,multiline=false"`
}

func concatenate(_ context.Context, in stringConcatenate) (string, error) {
	return in.A + in.Delimiter + in.B, nil
}

type stringContains struct {
	String        string `in:"string" ui:"multiline"`
	Substring     string `in:"substring" ui:"multiline"`
	CaseSensitive bool   `in:"case_sensitive"`
}

func contains(_ context.Context, in stringContains) (bool, error) {
	if !in.CaseSensitive {
		in.String, in.Substring = strings.ToLower(in.String), strings.ToLower(in.Substring)
	}
	return strings.Contains(in.String, in.Substring), nil
}

type stringReplace struct {
	String  string `in:"string" ui:"multiline"`
	Find    string `in:"find" ui:"multiline"`
	Replace string `in:"replace" ui:"multiline"`
}

func replace(_ context.Context, in stringReplace) (string, error) {
	return strings.ReplaceAll(in.String, in.Find, in.Replace), nil
}
