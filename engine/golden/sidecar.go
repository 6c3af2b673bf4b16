package golden

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/comfyrun/comfyrun/engine/compare"
)

// Options are what a sidecar says about a test.
type Options struct {
	Limits compare.Limits
	Set    []Setting // inputs that the run gets, sorted by target
	Nodes  []string  // the output nodes whose pictures count; none: all
	Skip   string    // why the test does not run; "" to run it
}

// Setting gives an input a value: NODE.INPUT and a text as on a command line.
type Setting struct{ Target, Text string }

// sidecar is the file as TOML has it.
type sidecar struct {
	Max   *int           `toml:"max"`
	Mean  *float64       `toml:"mean"`
	SSIM  *float64       `toml:"ssim"`
	PHash *int           `toml:"phash"`
	Nodes []string       `toml:"nodes"`
	Skip  string         `toml:"skip"`
	Set   map[string]any `toml:"set"`
}

// Options reads the test's sidecar; without one they are the defaults.
func (t Test) Options() (Options, error) {
	if t.Sidecar == "" {
		return Options{Limits: compare.Default()}, nil
	}
	data, err := os.ReadFile(t.Sidecar)
	if err != nil {
		return Options{}, fmt.Errorf("read sidecar: %w", err)
	}
	o, err := ParseOptions(data)
	if err != nil {
		return o, fmt.Errorf("read sidecar %s: %w", t.Sidecar, err)
	}
	return o, nil
}

// ParseOptions reads the text of a sidecar. Unknown keys are mistakes.
func ParseOptions(data []byte) (Options, error) {
	var s sidecar
	o := Options{Limits: compare.Default()}
	if err := toml.NewDecoder(bytes.NewReader(data)).DisallowUnknownFields().Decode(&s); err != nil {
		return o, located(err)
	}
	setIf(&o.Limits.Max, s.Max)
	setIf(&o.Limits.Mean, s.Mean)
	setIf(&o.Limits.SSIM, s.SSIM)
	setIf(&o.Limits.PHash, s.PHash)
	o.Nodes, o.Skip = s.Nodes, s.Skip
	var err error
	if o.Set, err = settings("", s.Set); err != nil {
		return o, err
	}
	return o, o.Limits.Check()
}

// settings lists a table; a name with a dot that has no quotes is a table in it.
func settings(prefix string, table map[string]any) ([]Setting, error) {
	var out []Setting
	for _, name := range slices.Sorted(maps.Keys(table)) {
		target := prefix + name
		if inner, ok := table[name].(map[string]any); ok {
			more, err := settings(target+".", inner)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
			continue
		}
		text, err := settingText(table[name])
		if err != nil {
			return nil, fmt.Errorf("set %q: %w", target, err)
		}
		out = append(out, Setting{target, text})
	}
	return out, nil
}

func setIf[T any](to, from *T) {
	if from != nil {
		*to = *from
	}
}

// settingText writes a value as a command line would have it.
func settingText(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", fmt.Errorf("%T is not a text, number or boolean", v)
}

// located puts the place of a mistake before it.
func located(err error) error {
	var strict *toml.StrictMissingError
	var broken *toml.DecodeError
	switch {
	case errors.As(err, &strict) && len(strict.Errors) > 0:
		line, column := strict.Errors[0].Position()
		return fmt.Errorf("line %d, column %d: unknown key %s; allowed are max, mean, ssim, phash, nodes, skip and [set]", line, column, strings.Join(strict.Errors[0].Key(), "."))
	case errors.As(err, &broken):
		line, column := broken.Position()
		return fmt.Errorf("line %d, column %d: %w", line, column, err)
	}
	return err
}
